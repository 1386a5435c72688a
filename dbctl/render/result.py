"""An answer in the form that was asked for; one writer per form."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from msgspec import structs

from dbctl.errors import UsageError
from dbctl.model import Done, Findings, Page, Value, counted
from dbctl.render import drawing, streams
from dbctl.render.envelope import envelope, line
from dbctl.render.escaping import escape
from dbctl.render.grid import Block, blocks, heading, is_table, names_of, records
from dbctl.render.options import Format, Look, draws, is_terminal
from dbctl.render.values import jsonable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Answer(Value, frozen=True, kw_only=True):
    """What a command has to say, and how it ends."""

    command: Sequence[str]  #: the words that name it: users, list
    result: object  #: a ``Value``; None where there is nothing to say
    status: int = 0
    target: str | None = None  #: ``app/database``
    warnings: Sequence[str] = ()
    headed: bool = True  #: whether csv and tsv begin with the names of the columns


def show(answer: Answer, look: Look) -> None:
    """Write ``answer`` to standard output, remarks about it to standard error.

    Raises:
        UsageError: ``look`` asks for a column that the answer does not have, or for what its form cannot be. Of what
            has been done already that is said, and the answer is given all the same: nothing was refused.
        OutputFailedError: standard output takes no more.
    """
    try:
        _check(answer, look)
    except UsageError as error:
        if not isinstance(answer.result, Done):
            raise
        if look.format is not Format.JSON:
            streams.remark(f"dbctl: {error}; what was asked for was done all the same")
        answer = structs.replace(answer, warnings=[*answer.warnings, str(error)])
        look = structs.replace(look, columns=(), excel_safe=False)
    _WRITERS[look.format](answer, look)


def _check(answer: Answer, look: Look) -> None:
    if look.excel_safe and look.format not in {Format.CSV, Format.TSV}:
        raise UsageError(detail="--excel-safe belongs to -o csv and -o tsv")
    if isinstance(answer.result, Done) and look.columns:  # others are checked as they are written
        names_of(records(answer.result), look.columns)


def _table(answer: Answer, look: Look) -> None:
    if isinstance(answer.result, Done) and not (answer.result.tells or is_terminal()):
        return
    made = blocks(answer.result, look.columns)
    if not draws(stream_is_terminal=is_terminal()):
        streams.write("".join(f"{text}\n" for text in drawing.plain(made)))
        return
    drawing.rich(made, color=look.color)
    if look.quiet:
        return
    if isinstance(answer.result, Page):
        footer(answer.result)
    if isinstance(answer.result, Findings):
        streams.remark(closing(answer.result))


def closing(result: Findings) -> str:
    """Return the line below the findings of a check on a terminal."""
    if not (result.checked or result.findings):
        return "nothing to check"
    return f"{result.checked} checked, {len(result.findings) or 'nothing'} found"


def footer(page: Page[object]) -> None:
    """Say on a terminal how much of a list was shown, and how the rest is reached."""
    from shlex import quote

    shown, end = len(page.items), page.offset + len(page.items)
    here = " ".join(f"--after {quote(word)}" for word in page.after)
    if page.has_more and shown:
        streams.remark(f"{shown} of {page.total}; {here or f'--offset {end}'} shows more")
    elif not shown:
        behind = f"{here or f'--offset {page.offset}'} is behind the last one"
        streams.remark(f"none of {page.total}; {behind}" if page.total else page.nothing)


def picture(made: Sequence[Block], *, color: bool, terminal: bool) -> None:
    """Show blocks on standard error, beside a question."""
    if draws(stream_is_terminal=terminal):
        drawing.rich(made, color=color, stderr=True)
    else:
        for text in drawing.plain(made):
            streams.remark(text)


def _json(answer: Answer, look: Look) -> None:
    data = _picked(answer.result, look.columns)
    streams.write(
        envelope(answer.command, data, status=answer.status, target=answer.target, warnings=answer.warnings),
        utf8=True,
    )


def _picked(result: object, columns: Sequence[str]) -> object:
    if not columns or result is None:
        return result
    rows = records(result)
    names = names_of(rows, columns, heading(result))
    chosen = [{name: row.get(name) for name in names} for row in rows]
    if isinstance(result, Page):
        return Page(items=chosen, total=result.total, limit=result.limit, offset=result.offset)
    if is_table(result):
        return chosen
    return chosen[0] if chosen else result


def _jsonl(answer: Answer, look: Look) -> None:
    data = _picked(answer.result, look.columns)
    for item in data.items if isinstance(data, Page) else () if data is None else (data,):
        streams.write(line(item), utf8=True)


def _cells(answer: Answer, look: Look) -> tuple[list[str], list[list[str]]]:
    rows = records(answer.result) if answer.result is not None else []
    names = names_of(rows, look.columns, heading(answer.result))
    return names, [[_cell(row.get(name)) for name in names] for row in rows]


def _cell(value: object) -> str:
    """Return one exact cell: text as it is, nothing for None, things and lists as JSON."""
    told = jsonable(value)
    if told is None:
        return ""
    return told if isinstance(told, str) else line(told).rstrip()


def _safe(
    rows: Sequence[Sequence[str]], raw: Sequence[Mapping[str, object]], names: Sequence[str], look: Look
) -> list[list[str]]:
    """Put ``'`` before text that a spreadsheet would run as a formula, and say how often."""
    made, changed = [], 0
    for cells, row in zip(rows, raw, strict=True):
        risky = [
            isinstance(row.get(n), str) and c.startswith(_FORMULA) for n, c in zip(names, cells, strict=True)
        ]
        made.append(["'" + cell if risk else cell for cell, risk in zip(cells, risky, strict=True)])
        changed += sum(risky)
    if changed and not look.quiet and sys.stderr.isatty():
        streams.remark(f"--excel-safe put ' before {counted(changed, 'cell')}")
    return made


def _csv(answer: Answer, look: Look) -> None:
    names, rows = _cells(answer, look)
    if look.excel_safe:
        rows = _safe(rows, records(answer.result), names, look)
    if is_terminal():  # a program gets every byte; what a person looks at must not steer the terminal
        rows = [[escape(cell) for cell in row] for row in rows]
    import csv
    import io

    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")  # what is quoted depends on it: a CR must be
    for row in [names, *rows] if names and answer.headed else rows:
        writer.writerow(row)
        text.seek(text.tell() - 2)
        text.write("\n")  # a line ends as every other tool in a pipe ends it
        text.truncate()
    streams.write(text.getvalue(), utf8=True)


def _tsv(answer: Answer, look: Look) -> None:
    names, rows = _cells(answer, look)
    if look.excel_safe:
        rows = _safe(rows, records(answer.result), names, look)
    for row in [names, *rows] if names and answer.headed else rows:
        streams.write("\t".join(escape(cell.replace("\\", "\\\\")) for cell in row) + "\n", utf8=True)


def _markdown(answer: Answer, look: Look) -> None:
    from tabulate import tabulate

    rows = records(answer.result) if answer.result is not None else []
    names = names_of(rows, look.columns, heading(answer.result))
    cells = [[_markdown_cell(_cell(row.get(name))) for name in names] for row in rows]
    if names:
        table = tabulate(
            cells, headers=[_markdown_cell(name) for name in names], tablefmt="pipe", disable_numparse=True
        )
        streams.write(table + "\n", utf8=True)


def _markdown_cell(text: str) -> str:
    return escape(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


_WRITERS: dict[Format, Callable[[Answer, Look], None]] = {
    Format.TABLE: _table,
    Format.JSON: _json,
    Format.JSONL: _jsonl,
    Format.CSV: _csv,
    Format.TSV: _tsv,
    Format.MARKDOWN: _markdown,
}
