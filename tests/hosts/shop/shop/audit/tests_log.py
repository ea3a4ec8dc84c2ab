"""What the host sees of the log in its own suite."""
# ruff: noqa: PT009 - written for Django's runner, as the hosts' are

from __future__ import annotations

from unittest import skipIf
from urllib.request import Request, urlopen

from django.contrib.auth.models import User
from django.test import LiveServerTestCase, TestCase, TransactionTestCase

from audit import conf
from audit.capture import record
from audit.capture.ids import Ids
from audit.capture.writer import writer
from audit.log.append import append
from audit.models import PipelineEventRecord
from shop.audit.models import Entry

needs_log = skipIf(conf.get("DELIVERY") == "off", "nothing is recorded")


def append_one(run: str) -> int:
    made = record.make("node_enter", {}, Ids(root_pipeline_id=run), ())
    return append(made, writer.stamp(), using=conf.get("DATABASE"), timeout=5.0)


def positions(run: str) -> list[int]:
    return list(PipelineEventRecord.objects.for_run(run).values_list("pk", flat=True))


@needs_log
class RolledBackRecordTests(TestCase):
    databases = "__all__"

    def test_a_appends(self):
        position = append_one("rolled back")
        self.assertEqual(positions("rolled back"), [position])

    def test_b_finds_nothing_of_a(self):
        self.assertEqual(positions("rolled back"), [])


@needs_log
class FlushedRecordTests(TransactionTestCase):
    """Django truncates its tables after each of these, but not the log, which would refuse it."""

    databases = "__all__"

    def test_a_appends(self):
        Entry.objects.create(text="flushed")
        append_one("committed")

    def test_b_finds_the_record_of_a(self):
        self.assertEqual(Entry.objects.filter(text="flushed").count(), 0)
        self.assertEqual(len(positions("committed")), 1)


@needs_log
class LiveRecordTests(LiveServerTestCase):
    databases = "__all__"

    def test_the_record_list_is_served(self):
        position = append_one("live")
        self.client.force_login(User.objects.create_superuser("admin"))
        page = Request(
            f"{self.live_server_url}/admin/bamboo_audit/pipelineeventrecord/?run=live",
            headers={"Cookie": f"sessionid={self.client.cookies['sessionid'].value}"},
        )
        with urlopen(page) as answer:
            self.assertIn(f"/pipelineeventrecord/{position}/change/", answer.read().decode())
