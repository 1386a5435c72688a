"""Draw blocks: as plain aligned columns, or for a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from dbctl.model import Finding
from dbctl.render import streams
from dbctl.render.escaping import escape, escape_lines
from dbctl.render.grid import Block, Grid
from dbctl.render.options import supports_color, supports_drawing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dbctl.render.options import OutputOptions

INDENT = "  "
_MAX_PADDED_WIDTH = 1000  #: a column is padded to at most this many cells


def plain_lines(blocks: Sequence[Block]) -> Iterator[str]:
    """Yield lines with aligned columns, neither truncated nor wrapped, without trailing spaces."""
    for block in blocks:
        if isinstance(block, Grid):
            yield from _aligned_lines(block)
        elif isinstance(block, Finding):
            yield f"{block.severity} {escape(block.target)}: {escape(block.message)} ({escape(block.code)})"
            if block.hint:
                yield INDENT * 2 + escape(block.hint)
        else:
            yield INDENT * block.depth + block.text


def _aligned_lines(grid: Grid) -> Iterator[str]:
    widths = padded_widths(grid)
    for row in [grid.header, *grid.rows] if grid.header else grid.rows:
        cells = [
            align(cell, width, right=right)
            for cell, width, right in zip(row, widths, grid.right_aligned, strict=True)
        ]
        yield (INDENT * grid.depth + INDENT.join(cells)).rstrip()


def padded_widths(grid: Grid) -> list[int]:
    """Return the widths to which cells are padded: a long text must not widen every row, so its own row is not aligned."""
    rows = [grid.header, *grid.rows] if grid.header else grid.rows
    return [min(max(map(cell_width, column)), _MAX_PADDED_WIDTH) for column in zip(*rows, strict=True)]


def align(text: str, width: int, *, right: bool) -> str:
    """Return ``text`` with spaces up to ``width`` cells."""
    blanks = " " * (width - cell_width(text))
    return blanks + text if right else text + blanks


def cell_width(text: str) -> int:
    """Return the width of ``text`` in terminal cells."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    # nonspacing marks, of which some have no combining class, such as variation selectors
    return sum(0 if category(c) in {"Mn", "Me"} else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def write_result(blocks: Sequence[Block], options: OutputOptions, *, paged: bool) -> None:
    """Write blocks to standard output; on a terminal fitted to its width, and ``paged`` if they are longer than the screen.

    Raises:
        OutputFailedError: standard output cannot be written.
        BrokenPipeError: the reader closed the pipe.
    """
    if not (supports_drawing(sys.stdout) or supports_color(sys.stdout)):
        streams.write("".join(f"{text}\n" for text in plain_lines(blocks)))
        return
    from dbctl.render.terminal.layout import lay_out
    from dbctl.render.terminal.screen import Screen

    screen = Screen.of(sys.stdout)
    lines = [screen.render(line) for line in lay_out(blocks, screen, wide=options.wide)]
    _write_screen(lines, height=screen.height if paged and options.pager else 0)


def write_script(sql: str, options: OutputOptions) -> None:
    """Write SQL for a program, or highlighted for a terminal; raises the errors of ``write_result``."""
    if not (supports_drawing(sys.stdout) or supports_color(sys.stdout)):
        streams.write(escape_lines(sql) if sys.stdout.isatty() else sql, utf8=True)
        return
    from dbctl.render.terminal.layout import highlight_script
    from dbctl.render.terminal.screen import Screen

    screen = Screen.of(sys.stdout)
    lines = [screen.render(line) for line in highlight_script(sql, screen)]
    _write_screen(lines, height=screen.height if options.pager else 0)


def color_help(text: str, stream: TextIO) -> str:
    """Return a help page with the colors that ``stream`` shows."""
    if not supports_color(stream):
        return text
    from dbctl.render.terminal.layout import style_help
    from dbctl.render.terminal.screen import Screen

    screen = Screen.of(stream)
    return "\n".join(screen.render(line) for line in style_help(text))


def _write_screen(lines: Sequence[str], *, height: int) -> None:
    """Write lines; more than ``height`` of them are shown in the pager at the end of the command, 0: without it."""
    if height and len(lines) >= height:
        streams.begin_paging()
    streams.write("".join(f"{line}\n" for line in lines))


def write_remarks(blocks: Sequence[Block]) -> None:
    """Write blocks to standard error, before a prompt."""
    if not (supports_drawing(sys.stderr) or supports_color(sys.stderr)):
        for text in plain_lines(blocks):
            streams.remark(text)
        return
    from dbctl.render.terminal.layout import lay_out
    from dbctl.render.terminal.screen import Screen

    screen = Screen.of(sys.stderr)
    for line in lay_out(blocks, screen):
        sys.stderr.write(screen.render(line) + "\n")
    sys.stderr.flush()
