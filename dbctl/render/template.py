r"""Templates of ``--template``: ``{login}\t{role}`` is the text of each row.

``{FIELD}`` is a field as in csv, ``{FIELD.KEY}`` a part of an object or list, ``{FIELD:FILTER}`` another form; ``{{`` and ``}}`` are
braces, ``\t``, ``\n`` and ``\\`` a tab, a line feed and a backslash. Nothing is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from dbctl import model
from dbctl.errors.usage import TemplateInvalidError
from dbctl.render.envelope import line
from dbctl.render.text import escape, format_duration, format_time, jsonable
from dbctl.units import format_size

_ESCAPES = {"t": "\t", "n": "\n", "\\": "\\"}
#: An escape, a doubled brace, a field, other text, or a character that is none of them.
_TOKEN = re.compile(
    r"\\(?P<escape>.?)|(?P<brace>\{\{|\}\})|\{(?P<field>[^{}]*)\}|(?P<text>[^\\{}]+)|(?P<single>.)", re.DOTALL
)


def _format_age(value: object) -> str:
    return format_time(
        value if isinstance(value, datetime) else datetime.fromisoformat(str(value)), model.now()
    )


def _format_duration(value: object) -> str:
    return format_duration(value.total_seconds() if isinstance(value, timedelta) else _parse_number(value))


def _parse_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise TypeError(value)
    return value if isinstance(value, int) else float(value)


def _format_json(value: object) -> str:
    return line(value).rstrip("\n")


_FILTERS: Mapping[str, Callable[[object], str]] = {
    "size": lambda value: format_size(_parse_number(value)),
    "age": _format_age,
    "duration": _format_duration,
    "json": _format_json,
}
_HELP = f"Write {{FIELD}}, {{FIELD.KEY}} or {{FIELD:FILTER}}, and braces as {{{{ and }}}}. Filters: {', '.join(_FILTERS)}."


class _Field(NamedTuple):
    path: str
    filter: str  #: empty: the value as in csv


class Template:
    """A parsed template."""

    def __init__(self, parts: Sequence[str | _Field]) -> None:
        self._parts = parts

    def check_fields(self, names: Sequence[str]) -> None:
        """Check that every field is a column of the result; without columns nothing is checked.

        Raises:
            TemplateInvalidError: a field is unknown.
        """
        for part in self._parts if names else ():
            if isinstance(part, _Field) and _find_column(part.path, names) is None:
                reason = f"unknown field {part.path!r}"
                raise TemplateInvalidError(reason=reason, help=f"Fields: {', '.join(names)}.")

    def format_row(self, row: Mapping[str, object]) -> str:
        """Return the text of a row; a filter that does not apply to a value leaves it unchanged."""
        return "".join(part if isinstance(part, str) else _format_field(part, row) for part in self._parts)


def parse_template(text: str) -> Template:
    """Parse a template.

    Raises:
        TemplateInvalidError: its syntax is wrong, or it has no field.
    """
    parts: list[str | _Field] = []
    for match in _TOKEN.finditer(text):
        if match["field"] is not None:
            parts.append(_parse_field(match["field"]))
        elif match["escape"] is not None:
            if match["escape"] not in _ESCAPES:
                raise _invalid(rf"unknown escape \{match['escape']} (known: \t, \n, \\)")
            parts.append(_ESCAPES[match["escape"]])
        elif match["single"]:
            raise _invalid(f"{match['single']} at character {match.start() + 1} has no counterpart")
        else:
            parts.append(match["text"] or match["brace"][0])
    if not any(isinstance(part, _Field) for part in parts):
        raise _invalid("it has no field")
    return Template(parts)


def _parse_field(text: str) -> _Field:
    path, _, name = text.rpartition(":") if ":" in text else (text, "", "")
    if name and name not in _FILTERS:
        raise _invalid(f"unknown filter {name!r}")
    if not path:
        raise _invalid("a field has no name")
    return _Field(path, name)


def _invalid(reason: str) -> TemplateInvalidError:
    return TemplateInvalidError(reason=reason, help=_HELP)


def _find_column(path: str, names: Sequence[str] | Mapping[str, object]) -> str | None:
    """Return the column of a path; names of columns may contain dots."""
    while path not in names:
        path, has_dot, _ = path.rpartition(".")
        if not has_dot:
            return None
    return path


def _format_field(field: _Field, row: Mapping[str, object]) -> str:
    column = _find_column(field.path, row)
    value = row.get(column) if column is not None else None
    keys = field.path[len(column or "") :].split(".")[1:]
    if keys:
        value = _follow(jsonable(value), keys)
    if value is None and field.filter != "json":
        return ""
    if field.filter:
        with suppress(TypeError, ValueError):
            return _FILTERS[field.filter](value)
    plain = jsonable(value)
    return escape(plain) if isinstance(plain, str) else _format_json(plain)


def _follow(value: object, keys: Sequence[str]) -> object:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isascii() and key.isdigit():
            value = value[int(key)] if int(key) < len(value) else None
        else:
            return None
    return value
