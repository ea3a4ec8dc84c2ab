"""A change list for logs: a FilterSet as filter bar, keyset pages, and never a COUNT.

Django's own counts all rows twice and pages by OFFSET; on ten million rows that is seconds.
"""

from __future__ import annotations

import datetime
from typing import Any, Final

from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest

OLDER: Final = "older"
NEWER: Final = "newer"


class LogChangeList(ChangeList):
    """Newest first; ``?older=`` and ``?newer=`` name the row that a page begins after.

    The model's admin says by which FilterSet it is filtered and by which time it is ordered
    (``filterset_class``, ``ordered_by``); rows of one time are ordered by their key.
    """

    model_admin: Any

    def get_filters_params(self, params: dict[str, Any] | None = None) -> dict[str, Any]:
        own = {OLDER, NEWER, *self.model_admin.filterset_class.base_filters}
        return {
            key: value
            for key, value in super().get_filters_params(params).items()
            if key not in own
        }

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        found = super().get_queryset(request, *args, **kwargs)
        filterset_class = self.model_admin.filterset_class
        self.filterset = filterset_class(request.GET or None, queryset=found)
        self.active = {
            name: request.GET.getlist(name)
            for name in filterset_class.base_filters
            if any(request.GET.getlist(name))
        }
        if not self.filterset.is_bound:
            return found
        # What is asked for in a way that nobody understands finds nothing, and not all there is.
        return self.filterset.qs if self.filterset.is_valid() else found.none()

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        return [f"-{self.model_admin.ordered_by}", "-pk"]

    def get_results(self, request: HttpRequest) -> None:
        size = self.list_per_page
        time, key = self.model_admin.ordered_by, self.model._meta.pk
        older, newer = _Key.read(request, OLDER, key), _Key.read(request, NEWER, key)
        page = self.queryset
        if newer is not None:
            page = page.filter(newer.above(time)).order_by(time, "pk")
        elif older is not None:
            page = page.filter(older.below(time))
        rows = list(page[: size + 1])
        more, rows = len(rows) > size, rows[:size]
        if newer is not None:
            rows.reverse()
        has_older = more if newer is None else True
        has_newer = more if newer is not None else older is not None
        self.older = self._page(OLDER, rows[-1]) if rows and has_older else ""
        self.newer = self._page(NEWER, rows[0]) if rows and has_newer else ""
        self.newest = self.get_query_string(remove=[OLDER, NEWER])
        self.at_newest = older is None and newer is None

        self.result_list = rows
        self.result_count = len(rows)
        # The same, because the page says "n results" where they differ.
        self.full_result_count = len(rows)
        self.show_full_result_count = False
        self.show_admin_actions = False
        self.can_show_all = False
        self.multi_page = False
        self.paginator = Paginator(rows, size)

    def _page(self, direction: str, row: Any) -> str:
        key = f"{getattr(row, self.model_admin.ordered_by).isoformat()}~{row.pk}"
        return self.get_query_string({direction: key}, remove=[OLDER, NEWER])


class _Key:
    """Where a page begins: a row's time and key."""

    def __init__(self, at: datetime.datetime, key: Any) -> None:
        self.at = at
        self.key = key

    @classmethod
    def read(cls, request: HttpRequest, name: str, field: Any) -> _Key | None:
        """From the address; nonsense there means the newest page."""
        at, _, key = request.GET.get(name, "").replace("\0", "").partition("~")
        try:
            moment = datetime.datetime.fromisoformat(at.replace(" ", "+"))
            if moment.tzinfo is None:
                return None
            value = field.to_python(key)
            if isinstance(value, int) and abs(value) >= 2**63:
                return None
            return cls(moment.astimezone(datetime.UTC), value)
        except (ValidationError, ValueError, OverflowError):
            return None

    # Two conditions, of which the first is what the index on (time, key) is entered by.
    def below(self, time: str) -> Q:
        same = Q(**{f"{time}__lt": self.at}) | Q(pk__lt=self.key)
        return Q(**{f"{time}__lte": self.at}) & same

    def above(self, time: str) -> Q:
        same = Q(**{f"{time}__gt": self.at}) | Q(pk__gt=self.key)
        return Q(**{f"{time}__gte": self.at}) & same
