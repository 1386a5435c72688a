"""Blocks drawn: as plain aligned columns, or by rich on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dbctl.render.grid import Block, Grid, Line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_INDENT = "  "
_WIDEST = 1000  #: cells up to which a column is padded


def plain(blocks: Sequence[Block]) -> Iterator[str]:
    """Give lines with aligned columns, never cut, never wrapped, without trailing blanks."""
    for block in blocks:
        if isinstance(block, Line):
            yield _INDENT * block.depth + block.text
        else:
            yield from _aligned(block)


def _aligned(grid: Grid) -> Iterator[str]:
    rows = [list(grid.head), *grid.rows] if grid.head else list(grid.rows)
    # One text of a megabyte must not make every row as wide; nothing is cut, that row alone is out of line.
    widths = [min(max(map(width, column)), _WIDEST) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            " " * (full - width(cell)) + cell if right else cell + " " * (full - width(cell))
            for cell, full, right in zip(row, widths, grid.right, strict=True)
        ]
        yield (_INDENT * grid.depth + _INDENT.join(cells)).rstrip()


def width(text: str) -> int:
    """Return how many cells of a terminal ``text`` takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def rich(blocks: Sequence[Block], *, color: bool, stderr: bool = False) -> None:
    """Draw on the terminal, fitted to its width; cells are never read as markup."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(
        file=sys.stderr if stderr else sys.stdout,
        color_system="auto" if color else None,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=False,
    )
    for block in (part for one in blocks for part in _fitted(one, console.width)):
        if (
            isinstance(block, Line) and block.unbroken
        ):  # the terminal folds it, and gives it back in one piece
            console.print(Text(_INDENT * block.depth + block.text), soft_wrap=True)
            continue
        if isinstance(block, Line):
            console.print(Padding(Text(block.text), (0, 0, 0, 2 * block.depth)))
            continue
        table = Table(
            box=None, show_header=bool(block.head), header_style="bold", padding=(0, 2, 0, 0), pad_edge=False
        )
        whole = _unbroken(block, console.width - len(_INDENT) * block.depth)
        for index, right in enumerate(block.right):
            table.add_column(
                Text(block.head[index]) if block.head else "",
                justify="right" if right else "left",
                overflow="fold",
                style="bold" if not block.head and index == 0 else None,
                no_wrap=index in whole or (not block.head and index == 0),
            )
        for row in block.rows:
            table.add_row(*map(Text, row))
        console.print(Padding(table, (0, 0, 0, 2 * block.depth), expand=False))


#: What a column that may be broken keeps at least.
_LEAST = 12


def _unbroken(grid: Grid, room: int) -> set[int]:
    """Return the columns that are kept in one piece: the narrowest first, as long as the others can stand.

    A wide one is not kept at the cost of others that are wider still: they get as much as it takes, up to twice the least.
    """
    widths = sorted((wide, at) for at, wide in enumerate(_widths(grid)))
    kept, taken = set(), 0
    for number, (wide, at) in enumerate(widths, 1):
        taken += wide + len(_INDENT)
        if taken + (len(widths) - number) * max(_LEAST, min(wide, 2 * _LEAST)) > room:
            break
        kept.add(at)
    return kept


def _widths(grid: Grid) -> list[int]:
    rows = [grid.head, *grid.rows] if grid.head else grid.rows
    return [max(map(width, column)) for column in zip(*rows, strict=True)]


def _fitted(block: Block, room: int) -> Iterator[Block]:
    if isinstance(block, Line):
        yield block
    else:
        yield from _upright(block, room)


def _upright(grid: Grid, room: int) -> Iterator[Block]:
    """Give a table inside of something, where it is wider than the terminal, as names and values, row by row."""
    if (
        not (grid.head and grid.depth)
        or sum(_widths(grid)) + len(_INDENT) * len(grid.head) <= room - len(_INDENT) * grid.depth
    ):
        yield grid
        return
    for number, row in enumerate(grid.rows):
        if number:
            yield Line("")
        pairs = list(zip(grid.head, row, strict=True))
        yield Grid(rows=pairs, right=(False, False), depth=grid.depth)
