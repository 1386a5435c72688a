"""Convert results to lines and grids of text, and draw them: as plain aligned columns, or for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, TextIO, TypeAlias, TypeGuard

import msgspec

from dbctl.errors.usage import UsageError
from dbctl.model import (
    ChangeResult,
    CheckResult,
    DryRunResult,
    Finding,
    Findings,
    Page,
    Plan,
    StoredRow,
    Struct,
    Trend,
)
from dbctl.render import streams
from dbctl.render.streams import supports_color, supports_drawing
from dbctl.render.text import NULL, describe_stored_value, draw_sparkline, escape, fields_of, format_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbctl.render.streams import OutputOptions
    from dbctl.render.terminal.roles import Role


class Grid(Struct, frozen=True, kw_only=True):
    """Cells in rows; without a ``header`` a list of names and values."""

    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]]
    right_aligned: Sequence[bool]  #: per column, for numbers
    fixed: Sequence[bool] = ()  #: per column, whether its values are never shortened: numbers, times
    depth: int = 0  #: levels of indentation
    is_requested: bool = False  #: the user named the columns, so none is omitted
    matrix: bool = False  #: every column but the first one contains yes and no


class Line(Struct, frozen=True):
    text: str
    depth: int = 0
    role: Role | None = None  #: its color on a terminal
    hanging: int = 0  #: indentation of the further lines if it is wrapped


Block: TypeAlias = Grid | Line | Finding


def records(result: object) -> list[dict[str, object]]:
    """Return the rows of a result: items of a page, findings, keys with values, or the result itself as one row."""
    if isinstance(result, Page):
        return [fields_of(item) for item in result.items]
    if isinstance(result, Findings):
        return [fields_of(finding) for finding in result.findings]
    if isinstance(result, Mapping):
        return [{"key": key, "value": value} for key, value in result.items()]
    return list_rows(result)


def list_rows(result: object) -> list[dict[str, object]]:
    """Return a single result as rows: its parts, or the result itself as one row."""
    summary = result.summary() if isinstance(result, Struct) else {}
    return [fields_of(result)] if isinstance(summary, Mapping) else [dict(row) for row in summary]


def is_table(result: object) -> bool:
    """Whether a single result is shown as a table with one row per part."""
    return isinstance(result, Struct) and not isinstance(result.summary(), Mapping)


def known_columns(result: object) -> Sequence[str]:
    """Return the columns of a result, which are defined even if it has no rows."""
    if isinstance(result, Findings):
        return Finding.__struct_fields__
    return result.column_names if isinstance(result, Page) else ()


def select_columns(
    rows: Sequence[Mapping[str, object]], requested: Sequence[str] = (), known: Sequence[str] = ()
) -> list[str]:
    """Return the columns to show: the requested ones, or all in order of appearance; without rows, those in ``known``.

    Raises:
        UsageError: a requested column is in no row.
    """
    known = list(dict.fromkeys(name for row in rows for name in row)) or list(known)
    unknown = [name for name in requested if name not in known]
    if unknown and known:
        raise UsageError(
            detail=f"--columns: no column {', '.join(map(repr, unknown))}; known: {', '.join(known)}",
            name=unknown[0],
            candidates=known,
        )
    return list(requested) or known


def build_blocks(
    result: object, columns: Sequence[str] = (), *, drawn: bool = False, quiet: bool = False
) -> list[Block]:
    """Return the blocks of a result; empty for no result.

    ``drawn``: they are shown on a terminal, not in a pipe. ``quiet``: of a check, only the findings are shown.
    """
    if result is None or (isinstance(result, ChangeResult) and not (result.summary() or columns)):
        return []
    if isinstance(result, (DryRunResult, Plan)):
        return _plan_blocks(result.plan if isinstance(result, DryRunResult) else result)
    if isinstance(result, CheckResult if not drawn else Findings) and not columns:
        states = list_rows(result) if is_table(result) and not quiet else []
        grids = [_build_grid(states, select_columns(states), 0)] if states else []
        return [*grids, *result.findings]
    if isinstance(result, (Page, Findings)) and (columns or not result.summary()):
        items = result.items if isinstance(result, Page) else result.findings
        rows = [_fields_of(item) if columns else summary_fields(item) for item in items]
        if isinstance(result, Page) and result.omitted_columns and not columns:
            rows = [
                {name: value for name, value in row.items() if name not in result.omitted_columns}
                for row in rows
            ]
        names = select_columns(rows, columns)
        return [_build_grid(rows, names, 0, is_requested=bool(columns))] if rows else []
    summary = result.summary() if isinstance(result, Struct) else {}
    if not isinstance(summary, Mapping):
        rows = [_draw_trends(_fields_of(row)) if drawn else _fields_of(row) for row in summary]
        grid = _build_grid(rows, select_columns(summary, columns), 0, is_requested=bool(columns))
        sections = result.sections() if isinstance(result, Struct) and not columns else {}
        return [grid, *_record_blocks({name: rows for name, rows in sections.items() if rows}, 0)]
    fields = (not columns and dict(summary)) or _fields_of(result)
    return _record_blocks({name: fields[name] for name in select_columns([fields], columns)}, 0)


def summary_fields(item: object) -> Mapping[str, object]:
    """Return the columns of an item in a table: its summary, otherwise its fields."""
    summary = item.summary() if isinstance(item, Struct) else {}
    return summary if summary and isinstance(summary, Mapping) else _fields_of(item)


def _draw_trends(row: Mapping[str, object]) -> Mapping[str, object]:
    return {name: draw_sparkline(value) if isinstance(value, Trend) else value for name, value in row.items()}


def _fields_of(item: object) -> Mapping[str, object]:
    fields = fields_of(item)
    if isinstance(item, StoredRow):
        return {name: describe_stored_value(value) for name, value in fields.items()}
    return fields


def _plan_title(plan: Plan) -> str:
    return escape(plan.title) + (f" ({escape(plan.target)})" if plan.target else "")


def _plan_blocks(plan: Plan) -> list[Block]:
    if plan.is_empty:
        return [Line(f"{_plan_title(plan)}: nothing to do")]
    lines: list[Block] = [Line(_plan_title(plan), role="heading")]
    lines += [
        Line(f"{number}. {escape(step)}", 1, hanging=len(f"{number}. "))
        for number, step in enumerate(plan.steps, 1)
    ]
    if plan.rows:
        rows = [{"table": table, "rows": count} for table, count in plan.rows.items()]
        lines.append(_build_grid(rows, ("table", "rows"), 1))
    if plan.destructive:
        lines.append(Line("This destroys data.", role="destructive"))
    return lines


#: The types whose values are aligned at the right; ``bool`` is a subclass of one.
NUMBERS = (int, float, Decimal, timedelta)


def _build_grid(
    rows: Sequence[Mapping[str, object]], names: Sequence[str], depth: int, *, is_requested: bool = False
) -> Grid:
    columns = [
        [value for row in rows if (value := row.get(name)) is not None and value != NULL] for name in names
    ]
    right = [
        bool(values) and all(isinstance(value, NUMBERS) and not isinstance(value, bool) for value in values)
        for values in columns
    ]
    return Grid(
        header=[escape(name) for name in names],
        rows=[[format_value(name, row.get(name)) for name in names] for row in rows],
        right_aligned=right,
        fixed=[
            number or all(isinstance(value, (bool, date)) for value in values)
            for number, values in zip(right, columns, strict=True)
        ],
        depth=depth,
        is_requested=is_requested,
        matrix=len(names) > 1
        and all(values and all(isinstance(value, bool) for value in values) for values in columns[1:]),
    )


def _record_blocks(fields: Mapping[str, object], depth: int) -> list[Block]:
    """Return names and values in order, then nested values under their names."""
    nested = {name: value for name, value in fields.items() if _is_nested(value)}
    plain = [
        [escape(name), format_value(name, value)] for name, value in fields.items() if name not in nested
    ]
    blocks: list[Block] = [Grid(rows=plain, right_aligned=(False, False), depth=depth)] if plain else []
    for name, value in nested.items():
        if isinstance(value, Sequence) and all(isinstance(item, Finding) for item in value):
            blocks += value
            continue
        blocks.append(Line(escape(name) + ":", depth))
        if _is_text_list(value):
            blocks += [Line(escape(line), depth + 1) for line in value]
        elif isinstance(value, (Mapping, msgspec.Struct)):
            blocks += _record_blocks(fields_of(value), depth + 1)
        elif isinstance(value, Sequence):
            rows = [fields_of(item) for item in value]
            blocks.append(_build_grid(rows, select_columns(rows), depth + 1))
    return blocks


def _is_text_list(value: object) -> TypeGuard[Sequence[str]]:
    """Whether a value is a list of sentences, which are shown one per line."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(item, str) for item in value)
        and any(" " in item for item in value)
    )


def _is_nested(value: object) -> bool:
    if _is_text_list(value):
        return True
    if isinstance(value, (Mapping, msgspec.Struct)):
        return bool(fields_of(value))
    return (
        isinstance(value, Sequence)
        and not isinstance(value, (str, bytes))
        and bool(value)
        and all(isinstance(item, (Mapping, msgspec.Struct)) for item in value)
    )


INDENT = "  "
_MAX_PADDED_WIDTH = 1000  #: a column is padded to at most this many cells


def plain_lines(blocks: Sequence[Block]) -> Iterator[str]:
    """Yield lines with aligned columns, neither truncated nor wrapped, without trailing spaces."""
    for block in blocks:
        if isinstance(block, Grid):
            widths = padded_widths(block)
            for row in [block.header, *block.rows] if block.header else block.rows:
                aligned = zip(row, widths, block.right_aligned, strict=True)
                cells = [align(cell, width, right=right) for cell, width, right in aligned]
                yield (INDENT * block.depth + INDENT.join(cells)).rstrip()
        elif isinstance(block, Finding):
            yield f"{block.severity} {escape(block.target)}: {escape(block.message)} ({escape(block.code)})"
            if block.hint:
                yield INDENT * 2 + escape(block.hint)
        else:
            yield INDENT * block.depth + block.text


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


def write_script(sql: str, options: OutputOptions) -> None:
    """Write SQL for a program, or highlighted for a terminal; raises the errors of ``streams.write``."""
    if not (supports_drawing(sys.stdout) or supports_color(sys.stdout)):
        streams.write_file(sql)
        return
    from dbctl.render.terminal.layout import highlight_script
    from dbctl.render.terminal.screen import Screen

    screen = Screen.of(sys.stdout)
    lines = [screen.render(line) for line in highlight_script(sql, screen)]
    write_screen(lines, height=screen.height if options.pager else 0)


def color_help(text: str, stream: TextIO) -> str:
    """Return a help page with the colors that ``stream`` shows."""
    if not supports_color(stream):
        return text
    from dbctl.render.terminal.layout import style_help
    from dbctl.render.terminal.screen import Screen

    screen = Screen.of(stream)
    return "\n".join(screen.render(line) for line in style_help(text))


def write_screen(lines: Sequence[str], *, height: int) -> None:
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
