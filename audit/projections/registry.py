"""Which projections there are: the timelines, and those that the host names."""

from __future__ import annotations

from django.utils.module_loading import import_string

from audit import conf
from audit.capture.text import describe
from audit.exceptions import UnknownProjection
from audit.projections.base import Projection, RunProjection
from audit.projections.timelines import Timelines


def registered() -> list[Projection]:
    """One of each, the timelines first.

    Raises:
        UnknownProjection: ``BAMBOO_AUDIT["PROJECTIONS"]`` names what is none.
    """
    found: list[Projection] = [Timelines()]
    for path in conf.get("PROJECTIONS"):
        found.append(_load(path))
        if found[-1].name in [each.name for each in found[:-1]]:
            raise UnknownProjection(
                f"BAMBOO_AUDIT['PROJECTIONS'] has two projections named {found[-1].name!r}: "
                "rename one, for each keeps its checkpoint under its name."
            )
    return found


def chosen(names: list[str]) -> list[Projection]:
    """Those of these names; without a name all.

    Raises:
        UnknownProjection: there is none of that name, or the setting names what is none.
    """
    every = registered()
    known = {each.name: each for each in every}
    for name in names:
        if name not in known:
            raise UnknownProjection(
                f"There is no projection {name!r}. There are: {', '.join(known)}. A host's own are "
                "named in BAMBOO_AUDIT['PROJECTIONS']."
            )
    return [each for each in every if not names or each.name in names]


def named(names: list[str]) -> list[Projection]:
    """As ``chosen``, and the timelines before them: their tables tell others which runs a gap
    concerns, so they are caught up first."""
    return chosen([*names, Timelines.name] if names else [])


def _missing(found: type[Projection]) -> str:
    """The method that it has to have and has not."""
    if found.apply is Projection.apply:
        return "apply"
    by_runs = issubclass(found, RunProjection) and found.apply is RunProjection.apply
    if by_runs and found.apply_run is RunProjection.apply_run:  # type: ignore[attr-defined]
        return "apply_run"
    return "reset" if found.reset is Projection.reset else ""


def _load(path: str) -> Projection:
    where = f"BAMBOO_AUDIT['PROJECTIONS'] names {path!r}"
    try:
        found = import_string(path)
    except Exception as error:
        raise UnknownProjection(f"{where}, which cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Projection)):
        raise UnknownProjection(
            f"{where}, which is no class derived from audit.projections.Projection."
        )
    if not found.name or not isinstance(found.name, str):
        raise UnknownProjection(f'{where}, which has no name: give it one, name = "…".')
    if type(found.version) is not int or found.version < 1:
        raise UnknownProjection(f"{where}, whose version is no whole number from 1 on.")
    if isinstance(found.event_types, str):
        raise UnknownProjection(f"{where}, whose event_types are one text: make them a list.")
    if missing := _missing(found):
        raise UnknownProjection(f"{where}, which has no {missing}().")
    try:
        return found()
    except Exception as error:
        raise UnknownProjection(f"{where}, which cannot be made: {describe(error)}") from error
