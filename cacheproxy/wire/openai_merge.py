"""Puts the fragments of a streamed JSON object together, members that nobody here has heard of included.

A *node* is an object under construction: a dict in which texts that grow and lists that grow are kept in pieces and
joined once, by ``joined``. ``null`` never erases anything. Fragments that contradict each other raise
``MalformedStream``: an answer that cannot be put together for certain is never stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cacheproxy.wire.dialect import MalformedStream

if TYPE_CHECKING:
    from cacheproxy.jsontext import Json, JsonObject

# Texts that name something are sent whole, by some providers again and again.
_LABELS: Final = frozenset({"id", "type", "name", "role", "object", "format", "model"})


def grows(name: str) -> bool:
    """Whether a text under this name comes in pieces (where texts grow at all)."""
    return name not in _LABELS


class _Text:
    """A text that grows."""

    __slots__ = ("pieces",)

    def __init__(self, first: str) -> None:
        self.pieces = [first]


class _Elements:
    """A list that grows. Elements that tell their ``index`` are nodes and grow too."""

    __slots__ = ("items", "nodes")

    def __init__(self) -> None:
        self.items: list[Json] = []
        self.nodes: dict[int, JsonObject] = {}

    def extend(self, fragments: list[Json], *, texts_grow: bool) -> None:
        for fragment in fragments:
            index = fragment.get("index") if isinstance(fragment, dict) else None
            if type(index) is not int:
                self.items.append(fragment)
                continue
            node = self.nodes.get(index)
            if node is None:
                node = self.nodes[index] = {}
                self.items.append(node)
            elif node.get("id") and fragment.get("id") and node["id"] != fragment["id"]:
                raise MalformedStream(f"two elements with the index {index}")
            merge(node, fragment, texts_grow=texts_grow)


def merge(node: JsonObject, fragment: JsonObject, *, texts_grow: bool) -> None:
    """Add a fragment to a node. The fragment belongs to the node afterwards.

    Objects merge and lists grow. A text is added to the one before it where ``texts_grow`` and the member is no
    label; otherwise the newest value stays, unless it is an empty text.
    """
    for name, new in fragment.items():
        node[name] = _merged(node.get(name), new, name, texts_grow=texts_grow)


def _merged(old: Json, new: Json, name: str, *, texts_grow: bool) -> Json:
    if new is None:
        return old
    if isinstance(new, dict) and (old is None or isinstance(old, dict)):
        into = {} if old is None else old
        merge(into, new, texts_grow=texts_grow)
        return into
    if isinstance(new, list) and (old is None or isinstance(old, _Elements)):
        elements = old or _Elements()
        elements.extend(new, texts_grow=texts_grow)
        return elements
    if isinstance(new, str) and texts_grow and grows(name):
        if old is None:
            return _Text(new)
        if isinstance(old, _Text):
            old.pieces.append(new)
            return old
    elif not isinstance(new, (dict, list)) and not isinstance(old, (dict, _Elements, _Text)):
        return old if new == "" and old is not None else new
    raise MalformedStream(f"{name} changed its type in mid-stream")


def joined(node: Json) -> Json:
    """The plain JSON value that a node stands for; the node can go on growing."""
    if isinstance(node, dict):
        return {name: joined(value) for name, value in node.items()}
    if isinstance(node, _Text):
        return "".join(node.pieces)
    if isinstance(node, _Elements):
        return [joined(item) for item in node.items]
    return node
