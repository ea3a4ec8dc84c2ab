"""The outline of a pipeline tree: what is there and how it hangs together, without its values.

Ids, names, types, components, flows, the flows of conditions, and subprocesses, at the places
where the engine's tree has them. No inputs, outputs, expressions or constants.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from audit.capture.ids import MAX_ID
from audit.capture.plain import Note
from audit.capture.text import clean_text, exact, type_name
from audit.exceptions import SoftTimeLimit

EVENTS: Final = frozenset({"pre_prepare_run_pipeline", "post_prepare_run_pipeline"})
"""The events that carry a tree."""
MAX_KEYS: Final = 100
"""Names of what is left out that are listed."""

_TEXTS: Final = (
    "id",
    "type",
    "name",
    "template_node_id",
    "source",
    "target",
    "converge_gateway_id",
)
_COMPONENT: Final = ("code", "version")
_GROUPS: Final = ("activities", "gateways", "flows")
_TEXT_COSTS: Final = 16
"""Bytes that a text takes in JSON beside its own: a key, quotes, a comma."""


def of_event(data: Any, most_bytes: int) -> tuple[Any, list[Note]]:
    """The data of an event with the outline for its tree; the engine's own is not touched.

    What cannot be read as such an event's data is answered as it is.
    """
    tree = member(data, "pipeline")
    if not _is_mapping(tree):
        return data, []
    shown: dict[str, Any] = {"pipeline": of_tree(tree, most_bytes)}
    others = {_text(name): _names(value) for name, value in _members(data, MAX_KEYS)}
    shown["left_out"] = {
        name: names for name, names in others.items() if names and name not in shown
    }
    return shown, [{"path": "$", "was": "the whole tree and its data"}]


def of_tree(tree: Any, most_bytes: int) -> dict[str, Any]:
    """The outline of any object that may be a tree, in about so many bytes of JSON at most."""
    outline = _Outline(most_bytes)
    top: dict[str, Any] = {}
    outline.pending.append((tree, top))
    # Not by recursion: subprocesses may be nested as deep as they like.
    while outline.pending:
        outline.pipeline(*outline.pending.popleft())
    return top


def member(value: Any, name: str) -> Any:
    """A member of what may be a mapping, None where it has none or fights back."""
    try:
        return value.get(name) if type(value) is dict or _is_mapping(value) else None
    except SoftTimeLimit:
        raise
    except Exception:
        return None


def _is_mapping(value: Any) -> bool:
    # Asking an ABC takes ten times as long; isinstance() may ask the object.
    return type(value) is dict or (value is not None and issubclass(type(value), Mapping))


def _members(value: Any, most: int) -> list[tuple[Any, Any]]:
    try:
        return list(islice(value.items(), most)) if _is_mapping(value) else []
    except SoftTimeLimit:
        raise
    except Exception:
        return []


def _names(value: Any) -> list[str]:
    found = [_text(key) or f"<{type_name(key)}>" for key, _ in _members(value, MAX_KEYS + 1)]
    return found if len(found) <= MAX_KEYS else [*found[:MAX_KEYS], "…"]


def _text(value: Any) -> str:
    if type(value) is str and len(value) <= MAX_ID and value.isascii() and "\0" not in value:
        return value
    return clean_text(exact(value)[:MAX_ID]) if issubclass(type(value), str) else ""


def _bytes(text: str) -> int:
    return (len(text) if text.isascii() else len(text.encode())) + _TEXT_COSTS


class _Outline:
    def __init__(self, most_bytes: int) -> None:
        self.left = most_bytes
        self.seen: set[int] = set()
        self.pending: deque[tuple[Any, dict[str, Any]]] = deque()

    def pipeline(self, tree: Any, outline: dict[str, Any]) -> None:
        """Fill in ``outline`` from ``tree``, and remember the subprocesses for later."""
        self.texts(tree, outline, ("id", "name"))
        if id(tree) in self.seen:
            return  # inside itself, or shared: ids are unique, so this is no tree of the engine's
        self.seen.add(id(tree))
        for event in ("start_event", "end_event"):
            node = member(tree, event)
            if _is_mapping(node):
                outline[event] = self.node(node)
        for name in _GROUPS:
            group = member(tree, name)
            if _is_mapping(group):
                outline[name] = self.group(group)

    def group(self, group: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        most = max(self.left, 0) // _TEXT_COSTS + 1
        for key, node in _members(group, most):
            if self.left <= 0:
                found["…"] = "[…more]"
                break
            name = _text(key) or f"<{type_name(key)}>"
            self.left -= _bytes(name)
            found[name] = self.node(node)
        return found

    def node(self, node: Any) -> dict[str, Any]:
        outline = self.texts(node, {}, _TEXTS)
        if component := self.texts(member(node, "component"), {}, _COMPONENT):
            outline["component"] = component
        if member(member(node, "loop_config"), "enable") is True:
            outline["loop_config"] = {"enable": True}  # states follow other rules then
        conditions = member(node, "conditions")
        if _is_mapping(conditions):
            outline["conditions"] = self.flows(conditions)
        if default := self.texts(member(node, "default_condition"), {}, ("flow_id",)):
            outline["default_condition"] = default
        inner = member(node, "pipeline")
        if _is_mapping(inner):
            outline["pipeline"] = {}
            self.pending.append((inner, outline["pipeline"]))
        return outline

    def flows(self, conditions: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for flow, _ in _members(conditions, max(self.left, 0)):
            name = _text(flow)
            self.left -= _bytes(name)
            if self.left <= 0:
                break
            found[name] = {}
        return found

    def texts(self, node: Any, outline: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
        if not _is_mapping(node):
            return outline
        for name in names:
            value = member(node, name)
            if value is not None and (text := _text(value)):
                self.left -= _bytes(text)
                outline[name] = text
        return outline
