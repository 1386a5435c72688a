"""Elements of HTML and SVG: every text and every attribute is escaped, because names come from databases."""

from __future__ import annotations

import html
from typing import TypeAlias

from dbctl.render.escaping import escape


class Html(str):
    """Markup that is safe to insert."""

    __slots__ = ()


#: A child of an element: text is escaped, None is omitted.
Node: TypeAlias = "Html | str | None"

_VOID = frozenset({"meta", "path", "line", "rect", "circle", "col"})


def element(name: str, /, *children: Node, **attributes: object) -> Html:
    """Return an element; an underscore in the name of an attribute is a hyphen, one at its end is dropped, None omits it."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Html(f"<{name}{pairs}>" if name == "meta" else f"<{name}{pairs}/>")
    return Html(f"<{name}{pairs}>{join(*children)}</{name}>")


def join(*nodes: Node) -> Html:
    """Return nodes one after the other."""
    return Html(
        "".join(node if isinstance(node, Html) else _escape(node) for node in nodes if node is not None)
    )


def _escape(text: str) -> str:
    """Return text as HTML; control characters and bidi overrides, which change how a page looks, are visible."""
    return html.escape(escape(text))
