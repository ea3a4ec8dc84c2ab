"""The FilterSet of records."""

from __future__ import annotations

from typing import Any

import django_filters
from django import forms
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from audit.events import VOCABULARY
from audit.filters.common import moment
from audit.models import PipelineEventRecord
from audit.querysets import RecordQuerySet


class _EventTypesField(forms.MultipleChoiceField):
    def valid_value(self, value: Any) -> bool:
        return True  # a type that is not in the vocabulary is recorded, so it can be asked for


class _EventTypesFilter(django_filters.Filter):  # type: ignore[misc]  # it has no types
    field_class = _EventTypesField


class RecordFilterSet(django_filters.FilterSet):  # type: ignore[misc]  # it has no types
    """Records by type, run, node, actor and time. Every filter is served by an index."""

    run = django_filters.CharFilter(label=_("Run"), method="filter_run")
    node = django_filters.CharFilter(label=_("Node"), method="filter_node")
    actor = django_filters.CharFilter(label=_("Actor"), method="filter_actor")
    since = moment(_("Since"), "occurred_at", "gte")
    until = moment(_("Until"), "occurred_at", "lt")
    event_type = _EventTypesFilter(
        label=_("Event type"),
        method="filter_event_type",
        choices=[(name, name) for name in VOCABULARY],
    )

    class Meta:
        model = PipelineEventRecord
        fields: tuple[str, ...] = ()

    def filter_event_type(
        self, queryset: RecordQuerySet, name: str, value: list[str]
    ) -> RecordQuerySet:
        types = [name.replace("\0", "") for name in value]
        return queryset.of_type(*types) if types else queryset

    def filter_run(self, queryset: RecordQuerySet, name: str, value: str) -> RecordQuerySet:
        return queryset.for_run(value.strip())

    def filter_node(self, queryset: RecordQuerySet, name: str, value: str) -> RecordQuerySet:
        return queryset.for_node(value.strip())

    def filter_actor(self, queryset: RecordQuerySet, name: str, value: str) -> RecordQuerySet:
        return queryset.by_actor(value.strip())


def matching_id(queryset: RecordQuerySet, pasted: str) -> RecordQuerySet:
    """Records of the run or node with that id."""
    pasted = pasted.replace("\0", "").strip()
    return queryset.filter(Q(root_pipeline_id=pasted) | Q(node_id=pasted))
