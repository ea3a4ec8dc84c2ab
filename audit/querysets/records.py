"""Querysets of the log: the public way to ask for records. They compose."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, NoReturn, Self

from django.contrib.postgres.expressions import ArraySubquery
from django.db import models
from django.db.models import Q
from django.db.models.fields.json import KeyTextTransform
from django.db.models.lookups import Exact

from audit.exceptions import AppendOnlyError

if TYPE_CHECKING:
    from audit.models import PipelineEventRecord  # noqa: F401 - the type of the rows


class _AnyOf(models.Func):
    """A column is among an array's elements. Not IN: no index serves that with a subquery."""

    template = "(%(expressions)s))"
    arg_joiner = " = ANY("
    output_field = models.BooleanField()


def _append_only(*_: Any, **__: Any) -> NoReturn:
    raise AppendOnlyError


class RecordQuerySet(models.QuerySet["PipelineEventRecord"]):
    """Records by run, node, type, time and actor. Lazy, like every Django queryset."""

    def for_run(self, root_pipeline_id: str) -> Self:
        """Records of one run, of its subprocesses and of all their nodes.

        Also operations that were stored before anybody knew which run their node is in: they
        are found by the nodes that the run's other records name.
        """
        run = Q(root_pipeline_id=root_pipeline_id)
        named = self.model._default_manager.using(self.db).filter(run).exclude(node_id="")
        nodes = ArraySubquery(named.order_by().values("node_id").distinct())
        of_its_nodes = Q(_AnyOf("node_id", nodes)) | Q(_AnyOf("pipeline_id", nodes))
        rootless = Q(root_pipeline_id="") & (of_its_nodes | Q(pipeline_id=root_pipeline_id))
        return self.filter(run | rootless)

    for_pipeline = for_run

    def for_node(self, node_id: str) -> Self:
        """Records of one node: activity, gateway, event, subprocess, or the run's root."""
        return self.filter(node_id=node_id)

    def of_type(self, *event_types: str) -> Self:
        """Records of one or more event types, such as ``"pre_retry_node"``."""
        return self.filter(event_type__in=event_types)

    def between(self, start: datetime.datetime | None, end: datetime.datetime | None) -> Self:
        """Records that occurred from ``start`` (inclusive) to ``end`` (exclusive), both aware;
        ``None`` leaves a side open.
        """
        found = self
        if start is not None:
            found = found.filter(occurred_at__gte=start)
        if end is not None:
            found = found.filter(occurred_at__lt=end)
        return found

    def by_actor(self, actor: str) -> Self:
        """Records of what ``actor`` did (see ``audit.context``)."""
        # As the partial index on the actor is declared: the key as text, where it is there.
        # Django's own context__actor= compares it as JSON, which the index cannot look up.
        said = KeyTextTransform("actor", "context")
        return self.filter(Exact(said, actor), context__has_key="actor")

    def in_order(self) -> Self:
        """In the order of a run: by time, and within a writer by its numbers."""
        return self.order_by("occurred_at", "writer_id", "writer_position")

    def newest_first(self) -> Self:
        """The latest first; of those at the same instant the one stored last."""
        return self.order_by("-occurred_at", "-id")

    # Records come from the receivers only; the database refuses the rest as well.
    create = get_or_create = update_or_create = bulk_create = _append_only
    update = delete = bulk_update = _append_only
    acreate = aget_or_create = aupdate_or_create = abulk_create = _append_only
    aupdate = adelete = abulk_update = _append_only
