"""The host's own tests, of each kind that Django has. They know nothing of bamboo-audit."""
# ruff: noqa: PT009, PT027 - written for Django's runner, as the hosts' are

from __future__ import annotations

from urllib.request import urlopen

from django.apps import apps
from django.db import IntegrityError, transaction
from django.test import LiveServerTestCase, SimpleTestCase, TestCase, TransactionTestCase

from shop.audit.models import Entry, Line


class LabelTests(SimpleTestCase):
    def test_the_label_audit_is_the_hosts(self):
        self.assertIs(apps.get_app_config("audit").get_model("Entry"), Entry)
        self.assertEqual(apps.get_app_config("audit").name, "shop.audit")
        self.assertEqual(Entry._meta.db_table, "audit_entry")


class EntryTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.entry = Entry.objects.create(text="of the class")

    def test_its_own_queries_are_the_only_ones(self):
        with self.assertNumQueries(2):
            Entry.objects.create(text="x")
            self.assertEqual(Entry.objects.count(), 3)

    def test_each_test_has_its_own_transaction(self):
        self.assertEqual(Entry.objects.count(), 2)

    def test_what_is_on_commit_runs(self):
        done = []
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            transaction.on_commit(lambda: done.append(1))
        self.assertEqual((done, len(callbacks)), ([1], 1))


class FlushedTests(TransactionTestCase):
    """After each of these Django truncates its tables."""

    def test_a_commits(self):
        entry = Entry.objects.create(text="committed")
        Line.objects.create(entry=entry, number=1)

    def test_b_finds_nothing_of_a(self):
        self.assertEqual(Entry.objects.filter(text="committed").count(), 0)
        self.assertEqual(Line.objects.count(), 0)

    def test_c_rolls_back(self):
        with self.assertRaises(IntegrityError), transaction.atomic():
            Entry.objects.create(text="x")
            raise IntegrityError
        self.assertFalse(Entry.objects.filter(text="x").exists())


class LiveTests(LiveServerTestCase):
    def test_the_host_serves(self):
        with urlopen(f"{self.live_server_url}/admin/login/") as answer:
            self.assertEqual(answer.status, 200)
