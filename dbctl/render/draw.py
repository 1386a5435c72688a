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
    from unicodedata import combining, east_asian_width  # noqa: PLC0415 - a file of its own to load

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def rich(blocks: Sequence[Block], *, color: bool, stderr: bool = False) -> None:
    """Draw on the terminal, fitted to its width; cells are never read as markup."""
    from rich.console import Console  # noqa: PLC0415 - as heavy as Typer; only terminals pay
    from rich.padding import Padding  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    console = Console(
        file=sys.stderr if stderr else sys.stdout,
        color_system="auto" if color else None,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=False,
    )
    for block in blocks:
        if isinstance(block, Line):
            console.print(Padding(Text(block.text), (0, 0, 0, 2 * block.depth)))
            continue
        table = Table(
            box=None, show_header=bool(block.head), header_style="bold", padding=(0, 2, 0, 0), pad_edge=False
        )
        whole = _unbroken(block, console.width)
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


#: Columns up to this width are not broken while they leave half of the terminal to the others.
_SHORT = 26


def _unbroken(grid: Grid, room: int) -> set[int]:
    """Return the columns that are kept in one piece: the narrowest ones, as long as they take no more than half."""
    rows = [grid.head, *grid.rows] if grid.head else grid.rows
    widths = sorted((max(map(width, column)), at) for at, column in enumerate(zip(*rows, strict=True)))
    kept, taken = set(), 0
    for wide, at in widths:
        taken += wide + len(_INDENT)
        if wide > _SHORT or taken > room // 2:
            break
        kept.add(at)
    return kept
