"""Results as titles, lines and grids of text, before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TypeAlias, TypeGuard

import msgspec

from dbctl.errors import UsageError
from dbctl.model import Examined, Finding, Findings, Page, Plan, Planned, Value
from dbctl.render.escaping import escape
from dbctl.render.human import words
from dbctl.render.values import fields_of


class Grid(Value, frozen=True, kw_only=True):
    """Cells in rows; without a ``head`` it is a list of names and values."""

    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]]
    right: Sequence[bool]  #: per column: numbers stand at the right
    depth: int = 0  #: how far it is indented


class Line(Value, frozen=True):
    """One line of text."""

    text: str
    depth: int = 0
    unbroken: bool = False  #: it is copied from a terminal as it is, however narrow that is


Block: TypeAlias = Grid | Line


def records(result: object) -> list[dict[str, object]]:
    """Return the rows of a result: a page's items, a check's findings, keys and values, or the one thing that it is."""
    if isinstance(result, Page):
        return [fields_of(item) for item in result.items]
    if isinstance(result, Findings):
        return [fields_of(finding) for finding in result.findings]
    if isinstance(result, Mapping):
        return [{"key": key, "value": value} for key, value in result.items()]
    brief = result.brief() if isinstance(result, Value) else {}
    return [fields_of(result)] if isinstance(brief, Mapping) else [dict(row) for row in brief]


def is_table(result: object) -> bool:
    """Whether one thing is shown as a table of its own, a row for each of its parts."""
    return isinstance(result, Value) and not isinstance(result.brief(), Mapping)


def heading(result: object) -> Sequence[str]:
    """Return the columns of a result's rows, also where it has none."""
    if isinstance(result, Findings):
        return Finding.__struct_fields__
    return result.names if isinstance(result, Page) else ()


def names_of(
    rows: Sequence[Mapping[str, object]], wanted: Sequence[str] = (), known: Sequence[str] = ()
) -> list[str]:
    """Return the columns to show, in order of appearance or as wanted; where there is no row, those ``known``.

    Raises:
        UsageError: a wanted column is in no row.
    """
    known = list(dict.fromkeys(name for row in rows for name in row)) or list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown and known:
        raise UsageError(
            detail=f"--columns: there is no column {', '.join(map(repr, unknown))}; known: {', '.join(known)}"
        )
    return list(wanted) or known


def blocks(result: object, columns: Sequence[str] = ()) -> list[Block]:
    """Take a result apart into what is drawn; empty where there is nothing to say."""
    if result is None:
        return []
    if isinstance(result, (Planned, Plan)):
        return _plan(result.plan if isinstance(result, Planned) else result)
    if isinstance(result, Examined) and not columns:
        return [line for finding in result.findings for line in _remedied(finding)]
    if isinstance(result, (Page, Findings)) and (columns or not result.brief()):
        items = result.items if isinstance(result, Page) else result.findings
        rows = [fields_of(item) if columns else _brief(item) for item in items]
        if isinstance(result, Page) and result.alike and not columns:
            rows = [{name: value for name, value in row.items() if name not in result.alike} for row in rows]
        return [_table(rows, names_of(rows, columns), 0)] if rows else []
    shown = result.brief() if isinstance(result, Value) else {}
    if not isinstance(shown, Mapping):
        return [_table(shown, names_of(shown, columns), 0)]
    fields = (not columns and dict(shown)) or fields_of(result)
    return _thing({name: fields[name] for name in names_of([fields], columns)}, 0)


def _brief(item: object) -> Mapping[str, object]:
    shown = item.brief() if isinstance(item, Value) else {}
    return shown if shown and isinstance(shown, Mapping) else fields_of(item)


def _remedied(finding: Finding) -> list[Block]:
    """Give what was found, and below it what helps, to be copied whole."""
    told = [
        Line(escape(f"{finding.severity}: {finding.target}: {finding.code}")),
        Line(escape(finding.message), 1),
    ]
    return [*told, Line(escape(finding.hint), 2, unbroken=True)] if finding.hint else [*told]


def _headline(plan: Plan) -> str:
    return escape(plan.title) + (f" ({escape(plan.target)})" if plan.target else "")


def _plan(plan: Plan) -> list[Block]:
    if plan.empty:
        return [Line(f"{_headline(plan)}: nothing to do")]
    lines: list[Block] = [Line(_headline(plan))]
    lines += [Line(f"{number}. {escape(step)}", 1) for number, step in enumerate(plan.steps, 1)]
    if plan.rows:
        rows = [[escape(table), str(count)] for table, count in plan.rows.items()]
        lines.append(Grid(head=("table", "rows"), rows=rows, right=(False, True), depth=1))
    if plan.destructive:
        lines.append(Line("This destroys data."))
    return lines


def _table(rows: Sequence[Mapping[str, object]], names: Sequence[str], depth: int) -> Grid:
    cells = [[words(name, row.get(name)) for name in names] for row in rows]
    right = [_numeric([row.get(name) for row in rows]) for name in names]
    return Grid(head=[escape(name) for name in names], rows=cells, right=right, depth=depth)


def _numeric(values: Sequence[object]) -> bool:
    told = [value for value in values if value is not None]
    return bool(told) and all(
        isinstance(value, (int, float, Decimal, timedelta)) and not isinstance(value, bool) for value in told
    )


def _thing(fields: Mapping[str, object], depth: int) -> list[Block]:
    """Names and values first, in their order; what holds further things follows below under its name."""
    inner = {name: value for name, value in fields.items() if _holds_things(value)}
    plain = [[escape(name), words(name, value)] for name, value in fields.items() if name not in inner]
    made: list[Block] = [Grid(rows=plain, right=(False, False), depth=depth)] if plain else []
    for name, value in inner.items():
        made.append(Line(escape(name) + ":", depth))
        if _is_prose(value):
            made += [Line(escape(line), depth + 1) for line in value]
        elif isinstance(value, (Mapping, msgspec.Struct)):
            made += _thing(fields_of(value), depth + 1)
        elif isinstance(value, Sequence):
            rows = [fields_of(item) for item in value]
            made.append(_table(rows, names_of(rows), depth + 1))
    return made


def _is_prose(value: object) -> TypeGuard[Sequence[str]]:
    """Whether it is a list of sentences, which deserve a line each."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(item, str) for item in value)
        and any(" " in item for item in value)
    )


def _holds_things(value: object) -> bool:
    if _is_prose(value):
        return True
    if isinstance(value, (Mapping, msgspec.Struct)):
        return bool(fields_of(value))
    return (
        isinstance(value, Sequence)
        and not isinstance(value, (str, bytes))
        and bool(value)
        and all(isinstance(item, (Mapping, msgspec.Struct)) for item in value)
    )
