"""The FilterSets of runs, nodes and transitions. Every filter is served by an index."""

from __future__ import annotations

from typing import Any

import django_filters
from django import forms
from django.utils.translation import gettext_lazy as _

from audit.filters.common import moment, only, text
from audit.fold.completeness import VERDICTS
from audit.fold.states import TABLE
from audit.models import NodeTimeline, PipelineTimeline, StateTransition
from audit.querysets import NodeQuerySet, RunQuerySet

STATES = [(state, state) for state in TABLE if state]


class _TagField(forms.CharField):
    """A tag as ``name=value``."""

    def clean(self, value: Any) -> tuple[str, str] | None:
        found = super().clean(value)
        if not found:
            return None
        name, equals, wanted = found.partition("=")
        if not equals or not name.strip():
            raise forms.ValidationError(
                _("A tag is asked for as name=value, such as task_id=42."), code="invalid"
            )
        return name.strip(), wanted.strip()


class _TagFilter(django_filters.Filter):  # type: ignore[misc]  # it has no types
    field_class = _TagField


class RunFilterSet(django_filters.FilterSet):  # type: ignore[misc]  # it has no types
    """Runs by state, time, tag, actor, component, what happened in them, and verdict."""

    state = django_filters.MultipleChoiceFilter(label=_("State"), choices=STATES, distinct=False)
    verdict = django_filters.ChoiceFilter(
        label=_("Verdict"), choices=[(each, each) for each in VERDICTS], method="filter_verdict"
    )
    tag = _TagFilter(label=_("Tag (name=value)"), method="filter_tag")
    actor = text(_("Actor"), "by_actor")
    component = text(_("Component"), "for_component")
    since = moment(_("Since"), "first_at", "gte")
    until = moment(_("Until"), "first_at", "lt")
    failed = only(_("Stands at a failure"), "failed")
    failures = only(_("With failures"), "with_failures")
    retried = only(_("Retried"), "retried")
    skipped = only(_("Skipped"), "skipped")
    intervention = only(_("With interventions"), "with_interventions")

    class Meta:
        model = PipelineTimeline
        fields: tuple[str, ...] = ()

    def filter_verdict(self, queryset: RunQuerySet, name: str, value: str) -> RunQuerySet:
        return queryset.with_verdict(value)

    def filter_tag(self, queryset: RunQuerySet, name: str, value: tuple[str, str]) -> RunQuerySet:
        return queryset.tagged_as_text(*value)


class NodeFilterSet(django_filters.FilterSet):  # type: ignore[misc]  # it has no types
    """Nodes by run, state, time, component, actor, and what happened to them."""

    run = text(_("Run"), "for_run")
    state = django_filters.MultipleChoiceFilter(label=_("State"), choices=STATES, distinct=False)
    component = text(_("Component"), "for_component")
    tag = _TagFilter(label=_("Tag of the run (name=value)"), method="filter_tag")
    actor = text(_("Actor"), "by_actor")
    since = moment(_("Since"), "started_at", "gte")
    until = moment(_("Until"), "started_at", "lt")
    failed = only(_("Stands at a failure"), "failed")
    failures = only(_("With failures"), "with_failures")
    retried = only(_("Retried"), "retried")
    skipped = only(_("Skipped"), "skipped")
    error_ignored = only(_("Error ignored"), "error_ignored")
    intervention = only(_("With interventions"), "with_interventions")

    class Meta:
        model = NodeTimeline
        fields: tuple[str, ...] = ()

    def filter_tag(self, queryset: NodeQuerySet, name: str, value: tuple[str, str]) -> NodeQuerySet:
        runs = PipelineTimeline.objects.using(queryset.db).tagged_as_text(*value)
        return queryset.of_runs(runs)


class TransitionFilterSet(django_filters.FilterSet):  # type: ignore[misc]  # it has no types
    """Transitions by run, node and time."""

    run = text(_("Run"), "for_run")
    node = text(_("Node"), "for_node")
    since = moment(_("Since"), "entered_at", "gte")
    until = moment(_("Until"), "entered_at", "lt")

    class Meta:
        model = StateTransition
        fields: tuple[str, ...] = ()
