"""Arrange blocks for the width of a terminal: no word is broken, long values end with an ellipsis, and SQL is highlighted."""

from __future__ import annotations

import re
from itertools import groupby, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from msgspec import structs

from dbctl.model import Finding
from dbctl.render.tables import INDENT, Grid, Line, align, cell_width, padded_widths
from dbctl.render.terminal.roles import COMMAND, SEVERITIES, Role, find_role
from dbctl.render.text import MISSING, escape, escape_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dbctl.render.tables import Block
    from dbctl.render.terminal.screen import Screen


#: Pieces of a line, each with its role, or None.
StyledLine: TypeAlias = "Sequence[tuple[str, Role | None]]"
T = TypeVar("T")

_NARROW = 60  #: on a narrower terminal, a table whose values would be cut is shown as cards
_MIN_COLUMN = 10  #: a column is cut to at least this width: the first characters of an id identify it
_MIN_KEY = 20  #: the first column, which names the row, is cut to at least this width
_UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-", re.IGNORECASE)
_ID_WIDTH = 9  #: the first group of a UUID, which identifies it in most lists, and an ellipsis
_HANGING = len(INDENT)
_HEADING = re.compile(r" {0,2}[A-Z][^:]*:$")
_TERM = re.compile(r" {0,2}(-\S.*?(?=  |$)|\S+(?: \S+)*?(?=  ))")  #: an entry of a list, before its text


def lay_out(blocks: Sequence[Block], screen: Screen, *, wide: bool = False) -> Iterator[StyledLine]:
    """Yield the lines of blocks; with ``wide``, values are complete."""
    for block in blocks:
        if isinstance(block, Finding):
            yield from _lay_out_finding(block, screen)
        elif isinstance(block, Grid):
            yield from _GridLayout(block, screen, wide=wide).lines()
        else:
            yield from _lay_out_line(block, screen)


def wrap_remark(text: str, role: Role | None, screen: Screen) -> Iterator[StyledLine]:
    """Yield the lines of a remark: the role colors its first word (``dbctl:``, ``note:``), and commands have their color."""
    depth = len(text) - len(text.lstrip(" "))
    lines = wrap_words(text[depth:], _available(screen, depth), hanging=_HANGING)
    for number, line in enumerate(lines):
        label, separator, rest = line.partition(": ") if not number else ("", "", line)
        yield [(" " * depth, None), (label + separator, role), *_mark_commands(rest)]


def style_help(text: str) -> Iterator[StyledLine]:
    """Yield the lines of a help page: headings, names of options and commands, and examples have their colors."""
    for line in text.split("\n"):
        usage = "Usage: "
        if line.startswith(usage):
            yield [(usage, "heading"), (line.removeprefix(usage), None)]
        elif _HEADING.match(line):
            yield [(line, "heading")]
        elif term := _TERM.match(line):
            yield [(line[: term.start(1)], None), (term[1], "command"), (line[term.end() :], None)]
        else:
            yield _mark_commands(line)


def _lay_out_line(line: Line, screen: Screen) -> Iterator[StyledLine]:
    indent = INDENT * line.depth
    for text in wrap_words(line.text, _available(screen, len(indent)), hanging=line.hanging):
        yield [(indent, None), *([(text, line.role)] if line.role else _mark_commands(text))]


def _lay_out_finding(finding: Finding, screen: Screen) -> Iterator[StyledLine]:
    """Yield the sentence of a finding after its severity and target, and its remedy on a line of its own."""
    role, sign = SEVERITIES[finding.severity]
    prefix = f"{screen.sign(sign)} {finding.severity} "
    code = f"({escape(finding.code)})"
    sentence = f"{prefix}{escape(finding.target)}: {escape(finding.message)} {code}"
    first, *others = wrap_words(sentence, screen.width, hanging=_HANGING)
    yield [(prefix, role), *_mark_end(first.removeprefix(prefix), code)]
    yield from (_mark_end(line, code) for line in others)
    hint, indent = escape(finding.hint), INDENT * 2
    if finding.source:
        yield from _mark_source(finding, role, screen)
    if COMMAND.match(hint) and not hint.endswith("."):
        yield [(indent, None), (hint, "command")]  # not wrapped, so that it can be copied
    elif hint:
        for line in wrap_words(hint, _available(screen, len(indent))):
            yield [(indent, None), *_mark_commands(line)]


def _mark_source(finding: Finding, role: Role, screen: Screen) -> Iterator[StyledLine]:
    """Yield the line of the script with the problem, after a mark and its number."""
    label = f"{INDENT * 2}{screen.sign('▶')} {finding.line} "
    marked = structs.replace(screen, width=_available(screen, cell_width(label)))
    for number, line in enumerate(highlight_script(finding.source or "", marked)):
        yield [(" " * cell_width(label), None) if number else (label, role), *line]


def _mark_end(line: str, ending: str) -> StyledLine:
    text = line.removesuffix(ending)
    return [(text, None), (ending, "dim")] if text != line else [(line, None)]


def _mark_commands(text: str) -> StyledLine:
    pieces: list[tuple[str, Role | None]] = []
    end = 0
    for match in COMMAND.finditer(text):
        pieces += [(text[end : match.start()], None), (match[0], "command")]
        end = match.end()
    return [*pieces, (text[end:], None)]


def _available(screen: Screen, used: int) -> int | None:
    return None if screen.width is None else max(screen.width - used, 1)


def wrap_words(text: str, width: int | None, *, hanging: int = 0) -> list[str]:
    """Break ``text`` at spaces; the lines after the first one are indented. A longer word is not broken."""
    if width is None or cell_width(text) <= width:
        return [text]
    lines, line = list[str](), ""
    indent = " " * hanging
    for word in _split_words(text, width - hanging):
        if line.strip() and cell_width(line) + 1 + cell_width(word) > width:
            lines.append(line.rstrip())
            line = indent + word
        else:
            line = f"{line} {word}" if line.strip() else line + word
    return [*lines, line]


def _split_words(text: str, width: int) -> Iterator[str]:
    """Yield the words of ``text``; a command that fits into ``width`` is one word, so that it can be copied."""
    end = 0
    for match in COMMAND.finditer(text):
        if cell_width(match[0]) > width:
            continue
        before = text[end : match.start()].removesuffix(" ")
        if match.start() > end or before:
            yield from before.split(" ")
        after = text[match.end() :].partition(" ")[0]  # the punctuation
        yield match[0] + after
        end = min(match.end() + len(after) + 1, len(text))
    if end < len(text) or not end:
        yield from text[end:].split(" ")


def _cut(text: str, width: int, ellipsis: str) -> str:
    """Return ``text`` with at most ``width`` cells; an ellipsis replaces the rest."""
    if cell_width(text) <= width:
        return text
    width -= len(ellipsis)
    end = used = 0
    for character in text:
        used += cell_width(character)
        if used > width:
            break
        end += 1
    return text[:end].rstrip() + ellipsis


class _GridLayout:
    """A table, its cards, or names and values."""

    def __init__(self, grid: Grid, screen: Screen, *, wide: bool) -> None:
        self._grid, self._screen, self._wide = grid, screen, wide
        self._indent = INDENT * grid.depth
        self._width = _available(screen, len(self._indent))
        self._ellipsis = screen.sign("…")

    def lines(self) -> Iterator[StyledLine]:
        if not self._grid.header:
            yield from self._pairs(self._grid.rows)
            return
        grid = self._grid
        if self._width is not None and _table_width(padded_widths(grid)) > self._width:
            grid = _drop_empty_columns(grid)
        if (widths := self._fit(grid)) is not None:
            yield from self._table(grid, widths)
            return
        for number, row in enumerate(self._grid.rows):
            if number:
                yield []
            yield from self._pairs(list(zip(self._grid.header, row, strict=True)))

    def _fit(self, grid: Grid) -> list[int] | None:
        """Return the widths of the columns of a table; None if it does not fit."""
        widths = padded_widths(grid)
        if self._width is None:
            return widths
        available = self._width - _table_width([0] * len(widths))
        columns = [[row[index] for row in grid.rows] for index in range(len(widths))]
        names = list(map(cell_width, grid.header))
        content = [max(name, *map(cell_width, column)) for name, column in zip(names, columns, strict=True)]
        least = [
            width if fixed else min(width, max(_MIN_COLUMN, name))
            for name, width, fixed in zip(names, content, grid.fixed, strict=True)
        ]
        least[0] = min(content[0], max(least[0], _MIN_KEY))
        limits = [content]
        # a part of one record, whose values are complete if possible
        is_single = grid.depth and len(grid.rows) == 1
        if not (self._wide or is_single or (self._screen.width or 0) < _NARROW):
            ids = [
                max(_ID_WIDTH, name) if all(map(_UUID.match, column)) else width
                for name, width, column in zip(names, content, columns, strict=True)
            ]
            # the first column names the row, so it is cut last
            limits += [ids, [ids[0], *least[1:]], list(map(min, ids, least))]
        for limit in limits:
            widths = _shrink(widths, limit, available)
        return widths if sum(widths) <= available else None

    def _table(self, grid: Grid, widths: Sequence[int]) -> Iterator[StyledLine]:
        yield self._row([(name, "heading") for name in grid.header], widths, grid.right_aligned)
        for row in grid.rows:
            yield self._row(map(self._style, grid.header, row), widths, grid.right_aligned)

    def _row(
        self, cells: Iterable[tuple[str, Role | None]], widths: Sequence[int], right_aligned: Sequence[bool]
    ) -> StyledLine:
        line: list[tuple[str, Role | None]] = [(self._indent, None)]
        for (text, role), width, right in zip(cells, widths, right_aligned, strict=True):
            is_cut = not (self._wide or self._width is None)
            piece = (_cut(text, width, self._ellipsis) if is_cut else text, role)
            blanks = (" " * (width - cell_width(piece[0])), None)
            line += [*((blanks, piece) if right else (piece, blanks)), (INDENT, None)]
        while line and not line[-1][0].strip(" "):
            line.pop()
        return line

    def _style(self, name: str, text: str) -> tuple[str, Role | None]:
        """Return a value as it is shown, with its role."""
        if not self._grid.matrix or self._width is None or text not in {"yes", "no"}:
            return text, find_role(name, text)
        return (self._screen.sign("✓"), "ok") if text == "yes" else (self._screen.sign("·"), "dim")

    def _pairs(self, pairs: Sequence[Sequence[str]]) -> Iterator[StyledLine]:
        """Yield names and values; a value that would break is on lines of its own."""
        name_width = max((cell_width(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            text, role = self._style(name, value)
            label = align(name, name_width, right=False)
            space = None if self._width is None else self._width - name_width - len(INDENT)
            longest = max(map(cell_width, text.split(" ")))
            if space is None or longest <= space:
                first, *others = wrap_words(text, space)
                yield [(self._indent, None), (label, "heading"), (INDENT, None), (first, role)]
                margin = self._indent + " " * (name_width + len(INDENT))
                yield from ([(margin, None), (line, role)] for line in others)
                continue
            yield [(self._indent, None), (name, "heading")]
            width = (self._width or 0) - len(INDENT)
            for line in wrap_words(text, width):
                piece = line if self._wide else _cut(line, width, self._ellipsis)
                yield [(self._indent + INDENT, None), (piece, role)]


def _shrink(widths: Sequence[int], limits: Sequence[int], available: int) -> list[int]:
    """Return widths of which the largest are reduced, at most to their limits, until their sum is ``available``."""
    widths = list(widths)
    while sum(widths) > available:
        reducible = [index for index, width in enumerate(widths) if width > limits[index]]
        if not reducible:
            break
        widths[max(reducible, key=widths.__getitem__)] -= 1
    return widths


def _table_width(widths: Sequence[int]) -> int:
    return sum(widths) + len(INDENT) * (len(widths) - 1)


def _drop_empty_columns(grid: Grid) -> Grid:
    """Return the grid without the columns that have no value in any row, except the first one and those that were requested."""
    if grid.is_requested:
        return grid
    shown = [
        number
        for number in range(len(grid.header))
        if not number or any(row[number] != MISSING for row in grid.rows)
    ]

    def select(cells: Sequence[T]) -> list[T]:
        return [cells[number] for number in shown]

    return structs.replace(
        grid,
        header=select(grid.header),
        rows=list(map(select, grid.rows)),
        right_aligned=select(grid.right_aligned),
        fixed=select(grid.fixed),
    )


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
