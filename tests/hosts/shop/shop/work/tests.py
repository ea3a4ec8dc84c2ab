"""The host's pipelines in the host's tests, on the real engine."""
# ruff: noqa: PT009 - written for Django's runner, as the hosts' are

from __future__ import annotations

from unittest import skipIf

from bamboo_engine import api, builder
from django.test import TestCase, TransactionTestCase
from pipeline.eri.models import State
from pipeline.eri.runtime import BambooDjangoRuntime

from audit import conf
from audit.models import PipelineEventRecord
from audit.testing.executor import heap
from shop.audit.models import Entry


def run(text: str) -> str:
    """Run a pipeline that writes one entry; answers its id."""
    start, act, end = (
        builder.EmptyStartEvent(),
        builder.ServiceActivity(component_code="shop_write_entry"),
        builder.EmptyEndEvent(),
    )
    act.component.inputs.text = builder.Var(type=builder.Var.PLAIN, value=text)
    start.extend(act).extend(end)
    tree = builder.build_tree(start)
    result = api.run_pipeline(BambooDjangoRuntime(), tree)
    assert result.result, result.exc_trace
    heap.pump()
    return tree["id"]


def recorded(run_id: str) -> list[str]:
    records = PipelineEventRecord.objects.for_run(run_id).in_order()
    return list(records.values_list("event_type", flat=True))


class PipelineTests(TestCase):
    def test_a_run_finishes(self):
        run_id = run("of a run")
        self.assertEqual(State.objects.get(node_id=run_id).name, "FINISHED")
        self.assertTrue(Entry.objects.filter(text="of a run").exists())

    def test_its_own_queries_are_the_only_ones_after_a_run(self):
        run("of a run")
        with self.assertNumQueries(1):
            self.assertEqual(Entry.objects.filter(text="of a run").count(), 1)


class FlushedPipelineTests(TransactionTestCase):
    def test_a_run_finishes(self):
        run_id = run("committed")
        self.assertEqual(State.objects.get(node_id=run_id).name, "FINISHED")

    def test_b_run_finishes(self):
        self.assertFalse(State.objects.exists())
        run("committed")
        self.assertEqual(Entry.objects.filter(text="committed").count(), 1)


@skipIf(conf.get("DELIVERY") == "off", "nothing is recorded")
class RecordedPipelineTests(TestCase):
    databases = "__all__"

    def test_a_run_is_recorded(self):
        types = recorded(run("recorded"))
        self.assertEqual(types.count("post_set_state"), 8)
        self.assertLessEqual(
            {"pre_prepare_run_pipeline", "node_enter", "post_execute", "pipeline_finish"},
            set(types),
        )


@skipIf(conf.get("DELIVERY") == "off", "nothing is recorded")
class CommittedPipelineTests(TransactionTestCase):
    databases = "__all__"
    run_id = ""

    def test_a_run_is_recorded(self):
        type(self).run_id = run("recorded")
        self.assertIn("pipeline_finish", recorded(self.run_id))

    def test_b_the_flush_left_its_records(self):
        self.assertFalse(State.objects.exists())
        self.assertIn("pipeline_finish", recorded(self.run_id))
