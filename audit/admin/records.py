"""The log in Django's admin."""

from __future__ import annotations

import json
from typing import Any, Final

from django.contrib import admin
from django.db.models import QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from audit.admin.common import ReadOnlyAdmin, link, shown_state, shown_time
from audit.events import VOCABULARY
from audit.filters import RecordFilterSet, matching_id
from audit.models import PipelineEventRecord
from audit.querysets import RecordQuerySet

RECORDS: Final = "pipelineeventrecord"
WHO_AND_WHY = ("actor", "executor", "reason", "source")
SHORT = 2_000
"""Values whose text is longer than this many characters are folded on a record's page."""


@admin.register(PipelineEventRecord)
class RecordAdmin(ReadOnlyAdmin[PipelineEventRecord]):
    """The log. Nobody adds, changes or deletes a record here, or anywhere."""

    filterset_class = RecordFilterSet
    ordered_by = "occurred_at"
    list_display = ("time", "type", "to_state", "run", "node", "actor", "reason")
    list_display_links = ("time",)
    search_fields = ("root_pipeline_id", "node_id")
    search_help_text = _("The id of a run, subprocess or node, whole")
    fieldsets = (
        (None, {"fields": ("type", "meaning", "time", "stored")}),
        (_("Who and why"), {"fields": ("about",)}),
        (_("Where"), {"fields": ("run", "pipeline", "node", "node_version")}),
        (_("Data"), {"fields": ("payload",)}),
        (_("Storage"), {"fields": ("id", "writer_id", "writer_position")}),
    )
    readonly_fields = (
        *("type", "meaning", "time", "stored", "run", "pipeline", "node", "about", "payload"),
        *("id", "writer_id", "writer_position", "node_version"),
    )

    def get_queryset(self, request: HttpRequest) -> RecordQuerySet:
        """Without ``data`` on the list, whose pages would hold megabytes of trees."""
        records = PipelineEventRecord.objects.all()
        match = request.resolver_match
        if match is not None and (match.url_name or "").endswith("_changelist"):
            return records.defer("data").annotate(state=KeyTextTransform("to_state", "data"))
        return records

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[PipelineEventRecord], search_term: str
    ) -> tuple[QuerySet[PipelineEventRecord], bool]:
        if search_term.strip() and isinstance(queryset, RecordQuerySet):
            return matching_id(queryset, search_term), False
        return queryset, False

    @admin.display(description=_("Time"))
    def time(self, record: PipelineEventRecord) -> SafeString:
        return shown_time(record.occurred_at)

    @admin.display(description=_("Stored"))
    def stored(self, record: PipelineEventRecord) -> SafeString:
        return shown_time(record.recorded_at)

    @admin.display(description=_("Event type"))
    def type(self, record: PipelineEventRecord) -> SafeString:
        known = VOCABULARY.get(record.event_type)
        nature = known.nature.value if known else "unknown"
        return format_html(
            '<span class="audit-type audit-{}" title="{}">{}</span>',
            nature,
            _meaning(record.event_type),
            record.event_type,
        )

    @admin.display(description=_("Meaning"))
    def meaning(self, record: PipelineEventRecord) -> str:
        known = VOCABULARY.get(record.event_type)
        if known is None:
            return str(_("Not in the vocabulary: recorded as it came."))
        return f"{_meaning(record.event_type)} ({known.nature.value})"

    @admin.display(description=_("State"))
    def to_state(self, record: PipelineEventRecord) -> SafeString:
        return shown_state(getattr(record, "state", None) or "")

    @admin.display(description=_("Run"))
    def run(self, record: PipelineEventRecord) -> SafeString:
        return link(RECORDS, "run", record.root_pipeline_id)

    @admin.display(description=_("Pipeline"))
    def pipeline(self, record: PipelineEventRecord) -> SafeString:
        return link(RECORDS, "node", record.pipeline_id)

    @admin.display(description=_("Node"))
    def node(self, record: PipelineEventRecord) -> SafeString:
        return link(RECORDS, "node", record.node_id)

    @admin.display(description=_("Actor"))
    def actor(self, record: PipelineEventRecord) -> SafeString:
        actor = record.context.get("actor") or ""
        return link(RECORDS, "actor", str(actor))

    @admin.display(description=_("Reason"))
    def reason(self, record: PipelineEventRecord) -> str:
        return str(record.context.get("reason") or "")

    @admin.display(description=_("Context"))
    def about(self, record: PipelineEventRecord) -> SafeString:
        # jsonb keeps no order of keys: who and why come first here.
        first = {key: record.context[key] for key in WHO_AND_WHY if key in record.context}
        return _table({**first, **record.context})

    @admin.display(description=_("Carried"))
    def payload(self, record: PipelineEventRecord) -> SafeString:
        return _table(record.data if isinstance(record.data, dict) else {"": record.data})


def _meaning(event_type: str) -> str:
    known = VOCABULARY.get(event_type)
    if known is None:
        return ""
    return known.meaning_zh if (get_language() or "").startswith("zh") else known.meaning


def _table(values: dict[str, Any]) -> SafeString:
    """Keys and values; long values folded, everything escaped."""
    rows = format_html_join(
        "",
        '<tr><th scope="row">{}</th><td>{}</td></tr>',
        ((key, _value(value)) for key, value in values.items()),
    )
    return format_html('<table class="audit-data"><tbody>{}</tbody></table>', rows)


def _value(value: Any) -> SafeString:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    if len(text) <= SHORT:
        return format_html("<pre>{}</pre>", text)
    return format_html(
        "<details><summary>{}</summary><pre>{}</pre></details>",
        _("%(count)s characters") % {"count": f"{len(text):,}"},
        text,
    )
