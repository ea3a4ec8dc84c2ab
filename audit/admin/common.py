"""What the lists and pages of all models share. Nobody adds, changes or deletes here."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from audit import conf
from audit.admin.changelist import LogChangeList
from audit.exceptions import AuditError
from audit.log.errors import translated

Row = TypeVar("Row", bound=models.Model)

if TYPE_CHECKING:

    class Base(admin.ModelAdmin[Row]):
        pass
else:

    class Base(admin.ModelAdmin, Generic[Row]):  # generic for the type checker only
        pass


class ReadOnlyAdmin(Base[Row]):
    """A list with a FilterSet for its filter bar, in keyset pages, newest first."""

    filterset_class: ClassVar[Any]
    ordered_by: ClassVar[str]
    """The time that the list is ordered by; never NULL in it."""
    list_per_page = 50
    actions = None
    sortable_by = ()
    """No column sorts: the pages are in the order of time."""

    class Media:
        css = {"all": ["bamboo_audit/admin.css"]}  # noqa: RUF012 - Django's way

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list; where the log cannot be asked, say so instead of failing."""
        try:
            with translated(conf.get("DATABASE")):
                return super().changelist_view(request, extra_context)
        except AuditError as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(reverse("admin:index"))

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Row | None:
        return None if "\0" in object_id else super().get_object(request, object_id, from_field)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return False  # the filter bar's are served by indexes; any other would read the table

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LogChangeList


def shown_time(value: datetime.datetime | None) -> SafeString:
    """In the viewer's time zone; the exact one on hover."""
    if value is None:
        return SafeString("")
    local = timezone.localtime(value) if timezone.is_aware(value) else value
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        value.isoformat(),
        value.isoformat(),
        f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d}",
    )


def shown_state(state: str) -> SafeString:
    """A badge with the state's name: never by colour alone."""
    return format_html('<span class="audit-state audit-state-{}">{}</span>', state, state)


def link(model: str, name: str, value: str, label: str = "") -> SafeString:
    """To the list of a model, filtered by a value."""
    if not value:
        return SafeString("")
    return format_html(
        '<a class="audit-id" href="{}?{}" title="{}">{}</a>',
        reverse(f"admin:bamboo_audit_{model}_changelist"),
        urlencode({name: value}),
        value,
        label or value,
    )
