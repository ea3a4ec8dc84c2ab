"""What the log says about runs, as lines of plain text for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from django.db.models import Aggregate, Count, FloatField, Q

from audit.event_type import Nature
from audit.events import POST_SET_STATE, VOCABULARY
from audit.models import PipelineEventRecord

from . import trees
from .models import AttemptTime
from .operations import state_of
from .story import Run

WIDTH = 79
DID = {
    "pause_pipeline": "paused",
    "resume_pipeline": "resumed",
    "revoke_pipeline": "revoked",
    "pause_node": "paused",
    "resume_node": "resumed",
    "retry_node": "retried",
    "skip_node": "skipped",
    "callback": "called back",
}
"""The interventions of the story in words; the vocabulary has all of them (audit.events)."""


def table(runs: Iterable[Run]) -> Iterator[str]:
    """A line for each run, and beneath it a line for each intervention."""
    yield f"{'RUN':<29}{'SHOWS':<22}{'STATE':<11}{'RECORDS':>7}"
    for run in runs:
        count = PipelineEventRecord.objects.for_run(run.id).count()
        yield f"{run.name:<29}{run.shows:<22}{state_of(run.id):<11}{count:>7}"
        for line in interventions(run):
            yield from _wrapped(line, "    ", "      ")


def interventions(run: Run) -> Iterator[str]:
    """Who did what to the run, and why."""
    names = names_of(run)
    for record in PipelineEventRecord.objects.for_run(run.id).in_order():
        known = VOCABULARY.get(record.event_type)
        if known and known.intervention and known.nature is Nature.FACT:
            verb = DID.get(record.event_type.removeprefix("post_"), record.event_type)
            what = names.get(record.node_id, "the run")
            yield f"{record.context['actor']} {verb} {what}: {record.context['reason']}"


def records(run: Run) -> Iterator[str]:
    """Every record of the run in its order, times since its first one."""
    names, began = names_of(run), None
    yield f"{'SECONDS':>8}  {'EVENT':<27}{'NODE':<28}{'STATE, ACTOR'}"
    for record in PipelineEventRecord.objects.for_run(run.id).in_order():
        began = began or record.occurred_at
        offset = (record.occurred_at - began).total_seconds()
        name = names.get(record.node_id or record.pipeline_id, "")
        yield f"{offset:>8.3f}  {record.event_type:<27}{name:<28}{_told(record)}".rstrip()


def totals() -> Iterator[str]:
    """How many records there are in the whole log, by event type."""
    log = PipelineEventRecord.objects
    counted = log.values_list("event_type").annotate(count=Count("pk"))
    by_type = [f"{name} {count:,}" for name, count in counted.order_by("-count", "event_type")]
    runs = log.of_type("pre_prepare_run_pipeline").count()
    yield f"{log.count():,} records of {runs:,} runs:"
    yield from _wrapped(", ".join(by_type), "  ", "  ")


def plugins() -> Iterator[str]:
    """How often each plugin failed, and how long it took: from the shop's own projection."""
    yield f"{'PLUGIN':<22}{'TIMES':>7}{'FAILED':>9}{'HALF IN':>12}{'95 % IN':>12}"
    found = AttemptTime.objects.values("component").annotate(
        times=Count("pk"),
        failed=Count("pk", filter=Q(failed=True)),
        half=Percentile("seconds", share=0.5),
        most=Percentile("seconds", share=0.95),
    )
    for row in found.order_by("component"):
        share = 100 * row["failed"] / row["times"]
        yield (
            f"{row['component']:<22}{row['times']:>7}{share:>7.0f} %"
            f"{row['half']:>10.3f} s{row['most']:>10.3f} s"
        )


class Percentile(Aggregate):
    """PostgreSQL's ``percentile_cont``, which Django has no name for."""

    function = "percentile_cont"
    template = "%(function)s(%(share)s) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = FloatField()


def names_of(run: Run) -> dict[str, str]:
    """The names of the run and its nodes by id, from the tree that the log has."""
    prepared = PipelineEventRecord.objects.for_run(run.id).of_type("pre_prepare_run_pipeline")
    return {
        node_id: name
        for record in prepared
        for node_id, name in trees.nodes(record.data["pipeline"])
    }


def _told(record: PipelineEventRecord) -> str:
    """The new state of a state change; who it was of what a person did."""
    if record.event_type == POST_SET_STATE:
        return str(record.data["to_state"])
    return str(record.context.get("actor", ""))


def _wrapped(text: str, first: str, then: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=then)
