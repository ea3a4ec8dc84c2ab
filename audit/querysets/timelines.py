"""Querysets of the timelines: runs, nodes and transitions. They compose, and are lazy."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from django.apps import apps
from django.db import models
from django.db.models import DurationField, Exists, ExpressionWrapper, F, OuterRef, Q
from django.utils import timezone

from audit.fold.completeness import COMPLETE, INCOMPLETE, RUNNING, SUSPECT, VERDICTS, WAITING
from audit.fold.states import FAILED, FINISHED, REVOKED
from audit.fold.states import RUNNING as STATE_RUNNING

if TYPE_CHECKING:
    from audit.models.timelines import (  # noqa: F401 - the types of the rows
        NodeTimeline,
        PipelineTimeline,
        StateTransition,
    )

Row = TypeVar("Row", bound=models.Model, covariant=True)
MAX_DIGITS: Final = 18
"""Longer ones are no numbers that anybody's software calls a run."""
DURATION = ExpressionWrapper(F("finished_at") - F("started_at"), output_field=DurationField())
"""As the index on it is declared."""


class _TimelineQuerySet(models.QuerySet[Row]):
    def in_state(self, *states: str) -> Self:
        """Those that are in one of these states of the engine, such as ``"SUSPENDED"``."""
        return self.filter(state__in=states)

    def running(self) -> Self:
        """Those that the engine has as RUNNING: a run also while it waits for somebody."""
        return self.in_state(STATE_RUNNING)

    def finished(self) -> Self:
        """Those that came to their end by themselves (FINISHED)."""
        return self.in_state(FINISHED)

    def started_between(
        self, start: datetime.datetime | None, end: datetime.datetime | None
    ) -> Self:
        """Those that began from ``start`` (inclusive) to ``end`` (exclusive), both aware;
        ``None`` leaves a side open.
        """
        found = self
        if start is not None:
            found = found.filter(started_at__gte=start)
        if end is not None:
            found = found.filter(started_at__lt=end)
        return found

    def with_failures(self) -> Self:
        """Those that failed at least once, also where they were retried or skipped since."""
        return self.filter(failures__gt=0)

    def with_interventions(self) -> Self:
        """Those that somebody intervened in."""
        return self.filter(interventions__gt=0)


class RunQuerySet(_TimelineQuerySet["PipelineTimeline"]):
    """Runs by state, time, tag, actor, component and verdict."""

    def newest_first(self) -> Self:
        """Those that were heard of last for the first time come first."""
        return self.order_by("-first_at", "-pk")

    def failed(self) -> Self:
        """Runs that stand at a failed node: the engine has them as RUNNING for ever."""
        return self.filter(failed_nodes__gt=0)

    def retried(self) -> Self:
        """Runs of which a node was retried."""
        return self.filter(retries__gt=0)

    def skipped(self) -> Self:
        """Runs of which a failed node was skipped."""
        return self.filter(skips__gt=0)

    def tagged(self, **tags: Any) -> Self:
        """Runs with all of these tags. A number and its text are not the same value."""
        return self.filter(tags__contains=tags)

    def tagged_as_text(self, name: str, value: str) -> Self:
        """Runs with a tag as somebody types it: ``42`` finds the number and the text."""
        wanted = Q(tags__contains={name: value})
        if value in ("true", "false"):
            wanted |= Q(tags__contains={name: value == "true"})
        elif len(value) <= MAX_DIGITS and value.removeprefix("-").isdecimal() and value.isascii():
            wanted |= Q(tags__contains={name: int(value)})
        return self.filter(wanted)

    def by_actor(self, actor: str) -> Self:
        """Runs that this actor started, or intervened in."""
        return self.filter(actors__contains=[actor])

    def for_component(self, code: str) -> Self:
        """Runs that have a node with this component."""
        nodes = apps.get_model("bamboo_audit", "NodeTimeline")._default_manager.using(self.db)
        return self.filter(
            Exists(nodes.filter(root_pipeline_id=OuterRef("pk"), component_code=code))
        )

    def slowest(self, count: int) -> Self:
        """Of the runs that are over those that took longest, the longest first."""
        over = self.filter(finished_at__isnull=False).annotate(duration=DURATION)
        return over.order_by("-duration")[:count]

    def incomplete(self) -> Self:
        """Runs of which records are missing."""
        return self.exclude(reasons=[])

    def with_verdict(self, verdict: str, now: datetime.datetime | None = None) -> Self:
        """Runs that are complete, running, waiting, incomplete or suspect at a moment (now).

        Raises:
            ValueError: there is no such verdict.
        """
        if verdict not in VERDICTS:
            raise ValueError(f"No verdict {verdict!r}: it is one of {', '.join(VERDICTS)}.")
        if verdict == INCOMPLETE:
            return self.incomplete()
        whole, over = self.filter(reasons=[]), Q(state__in=(FINISHED, REVOKED))
        if verdict == COMPLETE:
            return whole.filter(over)
        if verdict == WAITING:  # as the index on it is declared
            return whole.exclude(over).filter(expected_by__isnull=True)
        now = now or timezone.now()
        assert verdict in (RUNNING, SUSPECT)  # noqa: S101 - what is left of them
        return (
            whole.filter(expected_by__gte=now)
            if verdict == RUNNING
            else whole.filter(expected_by__lt=now)
        )


class NodeQuerySet(_TimelineQuerySet["NodeTimeline"]):
    """Nodes by state, time, run and component."""

    def newest_first(self) -> Self:
        """Those that began last come first; those that were not reached are not among them."""
        return self.filter(started_at__isnull=False).order_by("-started_at", "-pk")

    def by_actor(self, actor: str) -> Self:
        """Nodes that this actor did something to."""
        return self.filter(actors__contains=[actor])

    def of_runs(self, runs: RunQuerySet) -> Self:
        """Nodes of these runs, such as ``PipelineTimeline.objects.tagged(task_id=42)``."""
        return self.filter(root_pipeline_id__in=runs.order_by().values("pk"))

    def for_run(self, root_pipeline_id: str) -> Self:
        """The nodes of one run, in its subprocesses as well."""
        return self.filter(root_pipeline_id=root_pipeline_id)

    for_pipeline = for_run

    def for_component(self, code: str) -> Self:
        """Nodes with this component."""
        return self.exclude(component_code="").filter(component_code=code)

    def failed(self) -> Self:
        """Nodes that stand at a failure."""
        return self.in_state(FAILED)

    def retried(self) -> Self:
        """Nodes that were retried since they were last entered, as the engine counts."""
        return self.filter(retry__gt=0)

    def skipped(self) -> Self:
        """Nodes that failed and were skipped."""
        return self.filter(skip=True)

    def error_ignored(self) -> Self:
        """Nodes whose last error was ignored."""
        return self.filter(error_ignored=True)

    def slowest(self, count: int) -> Self:
        """Those that ran longest in all, the longest first."""
        return self.order_by("-running")[:count]


class TransitionQuerySet(models.QuerySet["StateTransition"]):
    """Transitions by run, node and time."""

    def for_run(self, root_pipeline_id: str) -> Self:
        """The transitions of one run and of all its nodes."""
        return self.filter(root_pipeline_id=root_pipeline_id)

    for_pipeline = for_run

    def for_node(self, node_id: str) -> Self:
        """The transitions of one node, or of the run itself."""
        return self.filter(node_id=node_id)

    def between(self, start: datetime.datetime | None, end: datetime.datetime | None) -> Self:
        """Those entered from ``start`` (inclusive) to ``end`` (exclusive), both aware;
        ``None`` leaves a side open.
        """
        found = self
        if start is not None:
            found = found.filter(entered_at__gte=start)
        if end is not None:
            found = found.filter(entered_at__lt=end)
        return found

    def at(self, moment: datetime.datetime) -> Self:
        """Those that lasted at a moment: one for every node that had a state then."""
        return self.filter(entered_at__lte=moment).filter(
            Q(left_at__gt=moment) | Q(left_at__isnull=True)
        )

    def in_order(self) -> Self:
        """By time."""
        return self.order_by("entered_at", "node_id", "ordinal")
