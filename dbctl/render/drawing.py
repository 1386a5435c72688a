"""Draw blocks: as plain aligned columns, or with rich on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dbctl.render.grid import Block, Grid, Line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_INDENT = "  "
_MAX_PADDED_WIDTH = 1000  #: a column is padded to at most this many cells


def plain_lines(blocks: Sequence[Block]) -> Iterator[str]:
    """Yield lines with aligned columns, neither truncated nor wrapped, without trailing spaces."""
    for block in blocks:
        if isinstance(block, Line):
            yield _INDENT * block.depth + block.text
        else:
            yield from _aligned_lines(block)


def _aligned_lines(grid: Grid) -> Iterator[str]:
    rows = [list(grid.header), *grid.rows] if grid.header else list(grid.rows)
    # A long text must not widen every row, so its own row is not aligned.
    widths = [min(max(map(cell_width, column)), _MAX_PADDED_WIDTH) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            " " * (full - cell_width(cell)) + cell if right else cell + " " * (full - cell_width(cell))
            for cell, full, right in zip(row, widths, grid.right_aligned, strict=True)
        ]
        yield (_INDENT * grid.depth + _INDENT.join(cells)).rstrip()


def cell_width(text: str) -> int:
    """Return the width of ``text`` in terminal cells."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def draw(blocks: Sequence[Block], *, color: bool, stderr: bool = False) -> None:
    """Draw blocks fitted to the width of the terminal; cells are never interpreted as markup."""
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
    for block in (fitted for block_ in blocks for fitted in _fit(block_, console.width)):
        if isinstance(block, Line) and block.no_wrap:
            # The terminal wraps it, so that a selection copies it as one line.
            console.print(Text(_INDENT * block.depth + block.text), soft_wrap=True)
            continue
        if isinstance(block, Line):
            console.print(Padding(Text(block.text), (0, 0, 0, 2 * block.depth)))
            continue
        table = Table(
            box=None,
            show_header=bool(block.header),
            header_style="bold",
            padding=(0, 2, 0, 0),
            pad_edge=False,
        )
        unwrapped = _fixed_columns(block, console.width - len(_INDENT) * block.depth)
        for index, right in enumerate(block.right_aligned):
            table.add_column(
                Text(block.header[index]) if block.header else "",
                justify="right" if right else "left",
                overflow="fold",
                style="bold" if not block.header and index == 0 else None,
                no_wrap=index in unwrapped or (not block.header and index == 0),
            )
        for row in block.rows:
            table.add_row(*map(Text, row))
        console.print(Padding(table, (0, 0, 0, 2 * block.depth), expand=False))


#: Minimum width of a column that may be wrapped.
_MIN_WIDTH = 12


def _fixed_columns(grid: Grid, available: int) -> set[int]:
    """Return the indexes of columns that are not wrapped: the narrowest ones, as long as space for the others remains.

    Each wider column gets at least its own width, up to twice the minimum.
    """
    widths = sorted((width, index) for index, width in enumerate(_column_widths(grid)))
    columns, used = set(), 0
    for count, (width, index) in enumerate(widths, 1):
        used += width + len(_INDENT)
        if used + (len(widths) - count) * max(_MIN_WIDTH, min(width, 2 * _MIN_WIDTH)) > available:
            break
        columns.add(index)
    return columns


def _column_widths(grid: Grid) -> list[int]:
    rows = [grid.header, *grid.rows] if grid.header else grid.rows
    return [max(map(cell_width, column)) for column in zip(*rows, strict=True)]


def _fit(block: Block, width: int) -> Iterator[Block]:
    if isinstance(block, Line):
        yield block
    else:
        yield from _fit_nested_grid(block, width)


def _fit_nested_grid(grid: Grid, width: int) -> Iterator[Block]:
    """Yield a nested table, or its rows as names and values if it is wider than the terminal."""
    if (
        not (grid.header and grid.depth)
        or sum(_column_widths(grid)) + len(_INDENT) * len(grid.header) <= width - len(_INDENT) * grid.depth
    ):
        yield grid
        return
    for number, row in enumerate(grid.rows):
        if number:
            yield Line("")
        pairs = list(zip(grid.header, row, strict=True))
        yield Grid(rows=pairs, right_aligned=(False, False), depth=grid.depth)
