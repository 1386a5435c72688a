"""Write results in the requested format; one writer per format."""

from __future__ import annotations

import sys
from shlex import quote
from typing import TYPE_CHECKING

from msgspec import structs

from dbctl.errors.usage import FormatNotSupportedError, TemplateInvalidError, UsageError
from dbctl.model import FORMULA_PREFIXES, ChangeResult, Findings, Page, Struct, format_count
from dbctl.render import streams, tables
from dbctl.render.envelope import envelope, line
from dbctl.render.streams import Format, OutputOptions, supports_color, supports_drawing
from dbctl.render.tables import build_blocks, is_table, known_columns, records, select_columns
from dbctl.render.text import escape, format_duration, jsonable
from dbctl.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from dbctl.render.template import Template


class CommandOutput(Struct, frozen=True, kw_only=True):
    """Result and exit code of a command."""

    command: Sequence[str]  #: path of the command: users, list
    result: object  #: a ``Struct``, or None for no output
    status: int = 0
    target: str | None = None  #: ``app/database``
    warnings: Sequence[str] = ()
    findings: Findings | None = None  #: of a result that is not ``Findings`` itself
    #: returns the configuration, as the location of findings without a file; None: there is none
    find_config: Callable[[], Path | None] = lambda: None
    seconds: float | None = None  #: duration of the work
    has_closing_line: bool = True
    has_header: bool = True  #: csv and tsv begin with the names of the columns


def show(output: CommandOutput, options: OutputOptions) -> None:
    """Write ``output`` to standard output, and notes and the closing line to standard error.

    Raises:
        UsageError: ``options`` select a column that the result lacks, or an option that the format does not support.
            After a change this is only a warning, because the change was applied.
        OutputFailedError: standard output cannot be written.
    """
    try:
        _check_options(output, options)
    except (UsageError, TemplateInvalidError) as error:
        if not isinstance(output.result, ChangeResult):
            raise
        if options.format is not Format.JSON:
            streams.remark(f"dbctl: {error}; the command itself succeeded")
        output = structs.replace(output, warnings=[*output.warnings, str(error)])
        is_template = options.format is Format.TEMPLATE
        table_format = Format.TABLE if is_template else options.format
        options = structs.replace(options, columns=(), excel_safe=False, format=table_format)
    _WRITERS.get(options.format, _markup)(output, options)
    result = output.result
    is_in_json = options.format is Format.JSON and isinstance(result, Page) and not result.closing
    if options.quiet or is_in_json or not output.has_closing_line:
        return
    if text := closing_line(result, seconds=output.seconds):
        streams.flush()  # the line is after the result, also if both streams end in one file
        streams.remark(text)


def _check_options(output: CommandOutput, options: OutputOptions) -> None:
    if options.excel_safe and options.format not in {Format.CSV, Format.TSV}:
        raise UsageError(detail="--excel-safe requires -o csv or -o tsv")
    if options.columns and (options.format.is_report or options.format is Format.TEMPLATE):
        raise UsageError(detail=f"--columns cannot be combined with -o {options.format}")
    # Other results are checked while they are written.
    if isinstance(output.result, ChangeResult) and options.columns:
        select_columns(records(output.result), options.columns)
    if isinstance(output.result, ChangeResult) and options.format is Format.TEMPLATE:
        _check_template(output, options)


def _table(output: CommandOutput, options: OutputOptions) -> None:
    """Write tables; on a terminal fitted to its width, and in the pager if a result that changes nothing is longer than the screen."""
    result, is_drawn = output.result, supports_drawing(sys.stdout)
    if isinstance(result, ChangeResult) and not (result.lost_output or sys.stdout.isatty()):
        return
    blocks = build_blocks(result, options.columns, drawn=is_drawn, quiet=options.quiet)
    if not (is_drawn or supports_color(sys.stdout)):
        streams.write("".join(f"{text}\n" for text in tables.plain_lines(blocks)))
        return
    from dbctl.render.terminal.layout import lay_out
    from dbctl.render.terminal.screen import Screen

    screen = Screen.of(sys.stdout)
    lines = [screen.render(line) for line in lay_out(blocks, screen, wide=options.wide)]
    is_paged = options.pager and not isinstance(result, ChangeResult)
    tables.write_screen(lines, height=screen.height if is_paged else 0)


def closing_line(result: object, *, seconds: float | None = None) -> str:
    """Return the closing line of a result without a period, with the ``seconds`` of the work if they are known; empty if it has none.

    That of a list is how many rows were shown, and the option that shows further ones; empty for a complete list.
    """
    closing = result.closing if isinstance(result, Struct) else None
    if closing is None and isinstance(result, Page):
        shown, end = len(result.items), result.offset + len(result.items)
        cursor = " ".join(f"--after {quote(word)}" for word in result.next_key)
        if result.has_more and shown:
            return f"{shown:,} of {result.total:,}; {cursor or f'--offset {end}'} shows more"
        if shown:
            return ""
        position = f"{cursor or f'--offset {result.offset}'} is after the last row"
        return f"none of {result.total:,}; {position}" if result.total else result.empty_message
    if closing is None:
        return ""
    text = closing.text
    if closing.is_timed and seconds is not None:
        text += f" in {format_duration(seconds)}"
    size = [] if closing.bytes is None else [format_size(closing.bytes)]
    details = ", ".join([*size, *closing.details])
    return f"{text}: {details}" if details else text


def _json(output: CommandOutput, options: OutputOptions) -> None:
    data = _select_fields(output.result, options.columns)
    streams.write(
        envelope(output.command, data, status=output.status, target=output.target, warnings=output.warnings),
        utf8=True,
    )


def _select_fields(result: object, columns: Sequence[str]) -> object:
    if not columns or result is None:
        return result
    rows = records(result)
    names = select_columns(rows, columns, known_columns(result))
    selected = [{name: row.get(name) for name in names} for row in rows]
    if isinstance(result, Page):
        return Page(items=selected, total=result.total, limit=result.limit, offset=result.offset)
    if is_table(result):
        return selected
    return selected[0] if selected else result


def _jsonl(output: CommandOutput, options: OutputOptions) -> None:
    data = _select_fields(output.result, options.columns)
    for item in data.items if isinstance(data, Page) else () if data is None else (data,):
        streams.write(line(item), utf8=True)


def _cells(output: CommandOutput, options: OutputOptions) -> tuple[list[str], list[list[str]]]:
    rows = records(output.result) if output.result is not None else []
    names = select_columns(rows, options.columns, known_columns(output.result))
    return names, [[_cell(row.get(name)) for name in names] for row in rows]


def _cell(value: object) -> str:
    """Return the exact text of a cell: empty for None, JSON for objects and lists."""
    plain = jsonable(value)
    if plain is None:
        return ""
    return plain if isinstance(plain, str) else line(plain).rstrip()


def _escape_formulas(
    rows: Sequence[Sequence[str]],
    raw: Sequence[Mapping[str, object]],
    names: Sequence[str],
    options: OutputOptions,
) -> list[list[str]]:
    """Prefix text that a spreadsheet would run as a formula with ``'``, and report the number of cells."""
    escaped, count = [], 0
    for cells, row in zip(rows, raw, strict=True):
        risky = [
            isinstance(row.get(n), str) and c.startswith(FORMULA_PREFIXES)
            for n, c in zip(names, cells, strict=True)
        ]
        escaped.append(["'" + cell if risk else cell for cell, risk in zip(cells, risky, strict=True)])
        count += sum(risky)
    if count and not options.quiet:
        streams.remark(f"--excel-safe prefixed with ': {format_count(count, 'cell')}")
    return escaped


def _csv(output: CommandOutput, options: OutputOptions) -> None:
    names, rows = _cells(output, options)
    if options.excel_safe:
        rows = _escape_formulas(rows, records(output.result), names, options)
    if sys.stdout.isatty():  # a program gets every byte; on a terminal control characters are escaped
        rows = [[escape(cell) for cell in row] for row in rows]
    import csv
    import io

    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")  # so that a field with a CR is quoted
    for row in [names, *rows] if names and output.has_header else rows:
        writer.writerow(row)
        text.seek(text.tell() - 2)
        text.write("\n")  # lines end with LF, as in other tools
        text.truncate()
    streams.write(text.getvalue(), utf8=True)


def _tsv(output: CommandOutput, options: OutputOptions) -> None:
    names, rows = _cells(output, options)
    if options.excel_safe:
        rows = _escape_formulas(rows, records(output.result), names, options)
    for row in [names, *rows] if names and output.has_header else rows:
        streams.write("\t".join(escape(cell.replace("\\", "\\\\")) for cell in row) + "\n", utf8=True)


def _markup(output: CommandOutput, options: OutputOptions) -> None:
    from dbctl.render.markup import format_table

    names, rows = _cells(output, options)
    if names:
        streams.write(format_table(names, rows, options.format) + "\n", utf8=True)


def _template(output: CommandOutput, options: OutputOptions) -> None:
    template = _check_template(output, options)
    for row in records(output.result):
        streams.write(template.format_row(row) + "\n", utf8=True)


def _check_template(output: CommandOutput, options: OutputOptions) -> Template:
    from dbctl.render.template import parse_template

    template = parse_template(options.template)
    template.check_fields(select_columns(records(output.result), (), known_columns(output.result)))
    return template


def _report(output: CommandOutput, options: OutputOptions) -> None:
    from dbctl.render.reports import create_report, write_report

    findings = output.result if isinstance(output.result, Findings) else output.findings
    if findings is None:
        raise FormatNotSupportedError(command=" ".join(output.command), format=options.format)
    report = create_report(
        output.command, findings, status=output.status, target=output.target, config=output.find_config()
    )
    write_report(report, options.format)


#: The other formats are tables in markup languages.
_WRITERS: dict[Format, Callable[[CommandOutput, OutputOptions], None]] = {
    Format.TABLE: _table,
    Format.JSON: _json,
    Format.JSONL: _jsonl,
    Format.CSV: _csv,
    Format.TSV: _tsv,
    Format.TEMPLATE: _template,
    Format.GITHUB: _report,
    Format.GITLAB: _report,
    Format.JUNIT: _report,
    Format.SARIF: _report,
}
