"""Filters that several FilterSets have."""

from __future__ import annotations

from typing import Any

import django_filters
from django import forms


def moment(label: Any, field: str, lookup: str) -> Any:
    """A moment, picked or typed in ISO 8601."""
    return django_filters.IsoDateTimeFilter(
        label=label,
        field_name=field,
        lookup_expr=lookup,
        widget=forms.DateTimeInput({"type": "datetime-local", "step": "1"}),
    )


def only(label: Any, method: str) -> Any:
    """A box: ticked, only those that a method of the queryset finds; else all."""

    def narrow(queryset: Any, name: str, value: Any) -> Any:
        return getattr(queryset, method)() if value else queryset

    return django_filters.BooleanFilter(label=label, method=narrow, widget=forms.CheckboxInput())


def text(label: Any, method: str) -> Any:
    """A text that a method of the queryset takes, without blanks around it."""

    def narrow(queryset: Any, name: str, value: str) -> Any:
        return getattr(queryset, method)(value.strip())

    return django_filters.CharFilter(label=label, method=narrow)
