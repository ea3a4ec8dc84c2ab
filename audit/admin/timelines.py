"""Runs, nodes and transitions in Django's admin, as the timelines have them."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from audit import words
from audit.admin.common import ReadOnlyAdmin, link, shown_state, shown_time
from audit.filters import NodeFilterSet, RunFilterSet, TransitionFilterSet
from audit.models import NodeTimeline, PipelineTimeline, StateTransition

NODES: Final = "nodetimeline"
RECORDS: Final = "pipelineeventrecord"
TRANSITIONS: Final = "statetransition"


@admin.register(PipelineTimeline)
class RunAdmin(ReadOnlyAdmin[PipelineTimeline]):
    """The runs."""

    filterset_class = RunFilterSet
    ordered_by = "first_at"
    list_display = (
        *("run_name", "badge", "verdict", "started", "duration", "tag_list", "actor"),
        *("counts", "nodes_link", "records_link"),
    )
    list_display_links = ("run_name",)
    search_fields = ("root_pipeline_id",)
    search_help_text = _("The id of a run, subprocess or node, whole")
    fieldsets = (
        (None, {"fields": ("name", "root_pipeline_id", "badge", "verdict", "why", "tag_list")}),
        (_("Time"), {"fields": ("started", "finished", "duration", "paused", "heard", "due")}),
        (_("Who"), {"fields": ("actor", "actors")}),
        (
            _("Counts"),
            {"fields": ("nodes", "attempts", "failures", "retries", "skips", "interventions")},
        ),
        (_("More"), {"fields": ("nodes_link", "transitions_link", "records_link")}),
    )
    readonly_fields = (
        *("run_name", "badge", "verdict", "why", "tag_list", "started", "finished", "duration"),
        *("heard", "due", "nodes_link", "transitions_link", "records_link"),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[PipelineTimeline], search_term: str
    ) -> tuple[QuerySet[PipelineTimeline], bool]:
        pasted = search_term.replace("\0", "").strip()
        if not pasted:
            return queryset, False
        # Asked first: as a subquery beside another condition no index would serve it.
        of_node = NodeTimeline.objects.filter(pk=pasted).values_list("root_pipeline_id", flat=True)
        return queryset.filter(pk__in=[pasted, *of_node]), False

    @admin.display(description=_("Run"))
    def run_name(self, run: PipelineTimeline) -> str:
        return run.name or run.pk

    @admin.display(description=_("State"))
    def badge(self, run: PipelineTimeline) -> SafeString:
        return shown_state(run.state)

    @admin.display(description=_("Verdict"))
    def verdict(self, run: PipelineTimeline) -> str:
        return run.verdict_at(timezone.now())

    @admin.display(description=_("Why"))
    def why(self, run: PipelineTimeline) -> SafeString:
        return format_html_join(
            "", "<p>{}</p>", ((str(reason.get("text", "")),) for reason in run.reasons)
        )

    @admin.display(description=_("Tags"))
    def tag_list(self, run: PipelineTimeline) -> SafeString:
        shown = ((name, str(value)[:100]) for name, value in run.tags.items())
        return format_html_join(" ", '<span class="audit-tag">{}={}</span>', shown)

    @admin.display(description=_("Started"))
    def started(self, run: PipelineTimeline) -> SafeString:
        return shown_time(run.started_at)

    @admin.display(description=_("Finished"))
    def finished(self, run: PipelineTimeline) -> SafeString:
        return shown_time(run.finished_at)

    @admin.display(description=_("Took"))
    def duration(self, run: PipelineTimeline) -> str:
        return "" if run.took is None else words.duration(run.took)

    @admin.display(description=_("Last heard of"))
    def heard(self, run: PipelineTimeline) -> SafeString:
        return shown_time(run.last_at)

    @admin.display(description=_("Expected by"))
    def due(self, run: PipelineTimeline) -> SafeString:
        return shown_time(run.expected_by)

    @admin.display(description=_("Happened"))
    def counts(self, run: PipelineTimeline) -> str:
        found = (
            (run.failed_nodes, ngettext("%d FAILED now", "%d FAILED now", run.failed_nodes)),
            (run.failures, ngettext("%d failure", "%d failures", run.failures)),
            (run.retries, ngettext("%d retry", "%d retries", run.retries)),
            (run.skips, ngettext("%d skip", "%d skips", run.skips)),
            (
                run.interventions,
                ngettext("%d intervention", "%d interventions", run.interventions),
            ),
        )
        return ", ".join(words % count for count, words in found if count)

    @admin.display(description=_("Nodes"))
    def nodes_link(self, run: PipelineTimeline) -> SafeString:
        return link(NODES, "run", run.pk, str(run.nodes))

    @admin.display(description=_("Transitions"))
    def transitions_link(self, run: PipelineTimeline) -> SafeString:
        return link(TRANSITIONS, "run", run.pk)

    @admin.display(description=_("Records"))
    def records_link(self, run: PipelineTimeline) -> SafeString:
        return link(RECORDS, "run", run.pk, str(_("records")))


@admin.register(NodeTimeline)
class NodeAdmin(ReadOnlyAdmin[NodeTimeline]):
    """The nodes that were reached."""

    filterset_class = NodeFilterSet
    ordered_by = "started_at"
    list_display = (
        *("node_name", "badge", "node_type", "component_code", "started", "ran", "attempts"),
        *("retry", "marks", "error", "run"),
    )
    list_display_links = ("node_name",)
    search_fields = ("node_id",)
    search_help_text = _("The id of a node or run, whole")
    fieldsets = (
        (None, {"fields": ("name", "node_id", "badge", "marks", "node_type", "component_code")}),
        (_("Where"), {"fields": ("run", "parent_id", "template_node_id")}),
        (_("Time"), {"fields": ("started", "finished", "ran")}),
        (_("Counts"), {"fields": ("attempts", "failures", "retry", "loop", "interventions")}),
        (_("Error"), {"fields": ("whole_error",)}),
        (_("More"), {"fields": ("transitions_link", "records_link")}),
    )
    readonly_fields = (
        *("badge", "marks", "run", "started", "finished", "ran", "whole_error"),
        *("transitions_link", "records_link"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[NodeTimeline]:
        match = request.resolver_match
        nodes = NodeTimeline.objects.all()
        if match is not None and (match.url_name or "").endswith("_changelist"):
            return nodes.filter(started_at__isnull=False)
        return nodes

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[NodeTimeline], search_term: str
    ) -> tuple[QuerySet[NodeTimeline], bool]:
        pasted = search_term.replace("\0", "").strip()
        if not pasted:
            return queryset, False
        return queryset.filter(Q(pk=pasted) | Q(root_pipeline_id=pasted)), False

    @admin.display(description=_("Node"))
    def node_name(self, node: NodeTimeline) -> str:
        return node.name or node.pk

    @admin.display(description=_("State"))
    def badge(self, node: NodeTimeline) -> SafeString:
        return shown_state(node.state)

    @admin.display(description=_("Marks"))
    def marks(self, node: NodeTimeline) -> str:
        found = ((node.skip, _("skipped")), (node.error_ignored, _("error ignored")))
        return ", ".join(str(word) for is_so, word in found if is_so)

    @admin.display(description=_("Started"))
    def started(self, node: NodeTimeline) -> SafeString:
        return shown_time(node.started_at)

    @admin.display(description=_("Finished"))
    def finished(self, node: NodeTimeline) -> SafeString:
        return shown_time(node.finished_at)

    @admin.display(description=_("Ran"))
    def ran(self, node: NodeTimeline) -> str:
        return words.duration(node.running) if node.running else ""

    @admin.display(description=_("Error"))
    def error(self, node: NodeTimeline) -> str:
        lines = node.last_error.strip().splitlines()
        return lines[-1][:100] if lines else ""

    @admin.display(description=_("Error"))
    def whole_error(self, node: NodeTimeline) -> SafeString:
        return format_html("<pre>{}</pre>", node.last_error) if node.last_error else SafeString("")

    @admin.display(description=_("Run"))
    def run(self, node: NodeTimeline) -> SafeString:
        return link(NODES, "run", node.root_pipeline_id)

    @admin.display(description=_("Transitions"))
    def transitions_link(self, node: NodeTimeline) -> SafeString:
        return link(TRANSITIONS, "node", node.pk)

    @admin.display(description=_("Records"))
    def records_link(self, node: NodeTimeline) -> SafeString:
        return link(RECORDS, "node", node.pk)


@admin.register(StateTransition)
class TransitionAdmin(ReadOnlyAdmin[StateTransition]):
    """The transitions."""

    filterset_class = TransitionFilterSet
    ordered_by = "entered_at"
    list_display = (
        *("entered", "before", "badge", "lasted", "node", "run", "attempt", "cause_link"),
        *("actor", "reason", "marks"),
    )
    list_display_links = None
    search_fields = ("node_id",)
    search_help_text = _("The id of a run, subprocess or node, whole")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # The list shows all there is of one, and links to the record behind it.
        return obj is None and super().has_view_permission(request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[StateTransition], search_term: str
    ) -> tuple[QuerySet[StateTransition], bool]:
        pasted = search_term.replace("\0", "").strip()
        if not pasted:
            return queryset, False
        return queryset.filter(Q(node_id=pasted) | Q(root_pipeline_id=pasted)), False

    @admin.display(description=_("Entered"))
    def entered(self, transition: StateTransition) -> SafeString:
        return shown_time(transition.entered_at)

    @admin.display(description=_("From"))
    def before(self, transition: StateTransition) -> SafeString:
        return shown_state(transition.from_state)

    @admin.display(description=_("State"))
    def badge(self, transition: StateTransition) -> SafeString:
        return shown_state(transition.state)

    @admin.display(description=_("Lasted"))
    def lasted(self, transition: StateTransition) -> str:
        if transition.left_at is None:
            return ""
        return words.duration(transition.left_at - transition.entered_at)

    @admin.display(description=_("Node"))
    def node(self, transition: StateTransition) -> SafeString:
        return link(TRANSITIONS, "node", transition.node_id)

    @admin.display(description=_("Run"))
    def run(self, transition: StateTransition) -> SafeString:
        return link(TRANSITIONS, "run", transition.root_pipeline_id)

    @admin.display(description=_("Cause"))
    def cause_link(self, transition: StateTransition) -> SafeString:
        from_record = reverse(f"admin:bamboo_audit_{RECORDS}_change", args=[transition.cause])
        return format_html('<a href="{}">{}</a>', from_record, transition.cause_type)

    @admin.display(description=_("Marks"))
    def marks(self, transition: StateTransition) -> str:
        return str(_("irregular")) if transition.irregular else ""
