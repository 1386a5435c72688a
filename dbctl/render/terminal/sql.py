"""SQL with highlighted words."""

from __future__ import annotations

from itertools import groupby, repeat
from operator import itemgetter
from typing import TYPE_CHECKING

from dbctl.render.escaping import escape_lines
from dbctl.render.terminal.layout import wrap_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dbctl.render.terminal.layout import StyledLine
    from dbctl.render.terminal.roles import Role
    from dbctl.render.terminal.screen import Screen

_TAB = 4  #: cells
#: The role of the kinds of tokens; the others have none.
_ROLES: Mapping[str, Role] = {
    "Keyword": "heading",
    "Name.Builtin": "command",
    "Comment": "dim",
    "Literal.String": "ok",
    "Literal.Number": "command",
}


def highlight_script(sql: str, screen: Screen) -> Iterator[StyledLine]:
    """Yield the lines of a script, wrapped at spaces; control characters are escaped."""
    from pygments.lexers.sql import SqlLexer

    text = escape_lines(sql).expandtabs(_TAB)
    roles = [
        role
        for kind, token in SqlLexer(stripnl=False, ensurenl=False).get_tokens(text)
        for role in repeat(_find_role(str(kind).removeprefix("Token.")), len(token))
    ]
    start = 0
    for line in text.removesuffix("\n").split("\n"):
        statement = line.lstrip(" ")
        depth = len(line) - len(statement)
        position = start + depth
        for number, part in enumerate(wrap_words(statement, screen.width and screen.width - depth - _TAB)):
            position = text.index(part, position)
            indent = " " * (depth + (_TAB if number else 0))
            yield [(indent, None), *_group(part, roles[position : position + len(part)])]
        start += len(line) + 1


def _group(text: str, roles: Sequence[Role | None]) -> Iterator[tuple[str, Role | None]]:
    """Yield the pieces of ``text`` with the same role, which is listed for each character."""
    for role, characters in groupby(zip(text, roles, strict=True), key=itemgetter(1)):
        yield "".join(character for character, _ in characters), role


def _find_role(kind: str) -> Role | None:
    return next((role for prefix, role in _ROLES.items() if kind.startswith(prefix)), None)
