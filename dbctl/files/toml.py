"""TOML files: parsing and validation, with the line numbers of all errors."""

from __future__ import annotations

import re
import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from dbctl.files.atomic import read_whole
from dbctl.model import group

T = TypeVar("T")

#: A key of a path: the name of a table or value, or the index of a table in an array of tables, from 0.
Key = str | int

MAX_SHOWN = 40  #: characters of a wrong value that a message shows
MAX_CHARACTERS = 4 << 20  #: of a file; the largest profile of dbctl has 28 thousand
MAX_KEY_PARTS = 64  #: of a dotted key: tomllib needs memory proportional to the square
MAX_PROBLEMS = 100  #: that are reported for one file
#: TOML terms for the types of JSON Schema.
KINDS = {
    "object": "a table",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "a boolean",
}

_LINE = r" \(at line (\d+), column \d+\)"
#: Messages of tomllib about duplicate keys and tables, and their replacements.
_PLAIN_MESSAGES = {
    r"^Cannot overwrite a value": "this key exists already",
    r"^Duplicate inline table key": "duplicate key",
    r"^Cannot declare .* twice": "this table exists already",
    r"^Cannot mutate immutable namespace .*": "this table was closed already, by braces or brackets",
}
_HEADER = r"^\s*(\[\[?)\s*(.*?)\s*\]\]?\s*(#.*)?$"
_BARE = r"[A-Za-z0-9_-]+"
#: Possessive, and only at the beginning of a word, so that matching takes linear time.
_DEEP_KEY = r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+)""" + f"{{{MAX_KEY_PARTS}}}"
_NAME = r'\s*("(?:[^"\\]|\\.)*"|\'[^\']*\'|[A-Za-z0-9_-]+)\s*(\.|=|$)'


class Problem(msgspec.Struct, frozen=True):
    """One error in a file: the line, from 1, the dotted key, and the reason."""

    line: int
    key: str
    reason: str
    file: Path | None = None  #: if the reader has several files


class TomlError(ValueError):
    """The file is not TOML, or its reader does not accept the content; contains at least one problem."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(problems[0].reason)
        self.problems = problems


def loads(text: str) -> dict[str, Any]:
    """Return the tables and values of ``text``.

    Raises:
        TomlError: the text is not TOML.
    """
    import tomllib

    if len(text) > MAX_CHARACTERS:
        raise TomlError(Problem(1, "TOML", f"the file is longer than {MAX_CHARACTERS:,} characters"))
    if text.count(".") >= MAX_KEY_PARTS and (deep_key := re.search(_DEEP_KEY, text)):
        line = text.count("\n", 0, deep_key.start()) + 1
        raise TomlError(Problem(line, "TOML", f"a key has more than {MAX_KEY_PARTS} parts"))
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(_LINE, str(error))
        line = int(match[1]) if match else text.count("\n") + 1
        reason = re.sub(_LINE, "", str(error)).strip()
        for pattern, message in _PLAIN_MESSAGES.items():
            reason = re.sub(pattern, message, reason)
        raise TomlError(Problem(line, "TOML", reason[:1].lower() + reason[1:])) from error
    except RecursionError:
        raise TomlError(Problem(1, "TOML", "it is nested too deeply")) from None
    except ValueError as error:  # a number with more digits than Python converts
        digits = re.search(f"[0-9_]{{{sys.get_int_max_str_digits()}}}", text)
        line = text.count("\n", 0, digits.start()) + 1 if digits else 1
        raise TomlError(Problem(line, "TOML", "a number has too many digits")) from error


def read_text(path: Path) -> str:
    """Return the text of a TOML file.

    Raises:
        TomlError: the file is not UTF-8.
        OSError: it cannot be read.
    """
    raw = read_whole(path, 4 * MAX_CHARACTERS, is_named=True).removeprefix(BOM_UTF8)
    try:
        return raw.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise TomlError(Problem(raw.count(b"\n", 0, error.start) + 1, "TOML", "it is not UTF-8")) from error


def structure(
    value: object, kind: type[T], text: str, *, locate: Callable[[Sequence[Key]], Sequence[Key]] = tuple
) -> T:
    """Convert a value of a file to a ``kind``; ``locate`` returns the path in ``text`` of a path in the value.

    The fast conversion reports only the first error. If it fails, the same rules as a JSON Schema find all errors with
    their exact keys.

    Raises:
        TomlError: with every error, in the order of their lines.
    """
    try:
        return msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as error:
        from jsonschema import Draft202012Validator

        errors = Draft202012Validator(msgspec.json.schema(kind)).iter_errors(value)
        reasons: dict[tuple[Key, ...], str] = {}
        for path, reason in chain.from_iterable(map(_reasons, errors)):
            reasons[tuple(locate(path))] = reason
            if len(reasons) > MAX_PROBLEMS:
                break
        problems = sorted(
            (create_problem(text, path, reason) for path, reason in reasons.items()),
            key=lambda entry: entry.line,
        )
        if len(problems) > MAX_PROBLEMS:
            problems[MAX_PROBLEMS:] = [
                Problem(problems[-1].line, dotted(locate(())), "further errors are not listed")
            ]
        raise TomlError(*(problems or [create_problem(text, locate(()), str(error))])) from error


def _reasons(error: Any) -> Iterator[tuple[list[Key], str]]:
    """Yield the path and reason of each problem in an error of the validator; unknown keys with suggestions."""
    path = list(error.absolute_path)
    if _is_about_key(error):
        # The path of such an error ends at the table.
        is_unknown = error.validator == "enum"
        reason = (
            _describe_unknown_key(error.instance, error.validator_value) if is_unknown else _describe(error)
        )
        yield [*path, error.instance], reason
    elif error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        for key in error.instance:
            if key not in known:
                yield [*path, key], _describe_unknown_key(key, known)
    elif error.validator == "required":
        for key in error.validator_value:
            if key not in error.instance:
                yield [*path, key], "it is missing"
    elif error.validator == "anyOf" and (alternative := _matching_alternative(error)):
        for inner_error in alternative:
            yield from _reasons(inner_error)
    else:
        yield path, _describe(error)


def _is_about_key(error: Any) -> bool:
    """Return whether a key of a table, not its value, is invalid."""
    return "propertyNames" in error.schema_path


def _describe_unknown_key(key: str, known: list[str]) -> str:
    from dbctl.errors.base import suggest_question

    return "unknown key" + (suggest_question(key, known) or f"; known: {', '.join(known)}")


def _matching_alternative(error: Any) -> list[Any]:
    """Return the errors of the alternative whose type the value has."""
    alternatives = group((item.schema_path[0], item) for item in error.context)
    candidates = [
        errors
        for errors in alternatives.values()
        if not any(
            item.validator in ("type", "enum") and not item.path and not _is_about_key(item)
            for item in errors
        )
    ]
    return min(candidates, key=len) if candidates else []


def _describe(error: Any) -> str:
    # An address may contain a password, and so may a list, a table, or the words of a program: only their kinds are shown.
    value = repr(error.instance)
    is_hidden = (
        type(error.instance) in (list, dict)
        or len(value) > MAX_SHOWN
        or re.search("[@= ]|//" if error.validator == "type" else "@|//", value)
    )
    kinds_by_type: dict[type, str] = {str: "text", list: "a list", dict: "a table", int: "a number"}
    shown = kinds_by_type.get(type(error.instance), "a time") if is_hidden else value
    shown = shown.lower() if isinstance(error.instance, bool) else shown  # as TOML writes it
    if error.validator == "type":
        expected = (
            [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
        )
        return f"must be {' or '.join(KINDS.get(kind, kind) for kind in expected)}, not {shown}"
    if error.validator == "anyOf":
        kinds = [
            KINDS.get(complaint.validator_value, "")
            for complaint in error.context
            if complaint.validator == "type"
        ]
        return (
            f"must be {' or '.join(dict.fromkeys(filter(None, kinds)))}, not {shown}"
            if any(kinds)
            else _describe_choice(shown, error.context)
        )
    if error.validator == "enum":
        return _describe_choice(shown, [error])
    message = str(error.message).replace(value, shown)
    return message if len(message) <= 3 * MAX_SHOWN else f"{shown} is invalid"


def _describe_choice(shown: str, errors: Sequence[Any]) -> str:
    """Return the reason of a value that is no element of the enumerations in errors; empty ones are not named."""
    values = [value for item in errors if item.validator == "enum" for value in item.validator_value if value]
    return f"{shown} is not one of {', '.join(map(str, values))}" if values else f"{shown} is invalid"


def create_problem(text: str, path: Sequence[Key], reason: str) -> Problem:
    """Return a problem at ``path`` with its line in ``text``."""
    return Problem(line_of(text, path), dotted(path), reason)


def quoted(text: str, *, value: bool = False) -> str:
    """Return ``text`` in TOML syntax: a key without quotes if possible, a value with quotes."""
    if not value and re.fullmatch(_BARE, text):
        return text
    escaped = "".join(
        f"\\{letter}" if letter in '"\\' else letter if letter.isprintable() else f"\\U{ord(letter):08X}"
        for letter in text
    )
    return f'"{escaped}"'


def dotted(path: Sequence[Key]) -> str:
    """Return a path as users write it: ``users.rules``, ``search[0].keys``."""
    return (
        "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".") or "the file"
    )


def line_of(text: str, path: Sequence[Key]) -> int:
    """Return the line, from 1, of the value at ``path``, or of the nearest enclosing value."""
    index = _line_index(text)
    if line := index.headers.get(tuple(path)):
        return min(line, index.keys.get(tuple(path), line))
    for length in range(len(path), 0, -1):
        if line := index.keys.get(tuple(path[:length])):
            return line
    return 1


class _LineIndex(NamedTuple):
    """The first line, from 1, of each path: of complete headers and (parts of) keys, and of parts of headers."""

    keys: dict[tuple[Key, ...], int]
    headers: dict[tuple[Key, ...], int]


@lru_cache(maxsize=2)  # called for each error of a file
def _line_index(text: str) -> _LineIndex:
    index = _LineIndex({}, {})
    table: list[Key] = []
    shortest_new = 1  # the length of the shortest prefix of a key's path that is new
    array_indexes: dict[tuple[Key, ...], int] = {}
    closing_quotes = ""  # the closing quotes of an open multi-line text
    for line_number, line in enumerate(text.splitlines(), 1):
        if closing_quotes:
            closing_quotes = "" if closing_quotes in line else closing_quotes
            continue
        header = re.match(_HEADER, line)
        if header:
            names = _names(header[2], "")
            table = _insert_indexes(names[:-1], array_indexes)
            if header[1] == "[[":
                array = (*table, names[-1])
                array_indexes[array] = array_indexes.get(array, -1) + 1
            path = table = _insert_indexes(names, array_indexes)
            index.keys.setdefault(tuple(path), line_number)
            for length in range(1, len(path) + 1):
                index.headers.setdefault(tuple(path[:length]), line_number)
            shortest_new = 1
            continue
        closing_quotes = next((quotes for quotes in ('"""', "'''") if line.count(quotes) == 1), "")
        if names := _names(line, "="):
            path = [*table, *names]
            for length in range(shortest_new, len(path) + 1):
                index.keys.setdefault(tuple(path[:length]), line_number)
            shortest_new = len(table) + 1
    return index


def _insert_indexes(names: Sequence[str], array_indexes: dict[tuple[Key, ...], int]) -> list[Key]:
    """Return ``names`` with the index of the newest table after each array of tables."""
    result: list[Key] = []
    for name in names:
        result.append(name)
        if tuple(result) in array_indexes:
            result.append(array_indexes[tuple(result)])
    return result


def _names(text: str, end: str) -> list[str]:
    """Return the names of a dotted key that is followed by ``end``; empty if the text is not one."""
    name, names, position = re.compile(_NAME), [], 0
    while match := name.match(text, position):
        names.append(match[1].strip("\"'"))
        position = match.end()
        if match[2] != ".":
            return names if match[2] == end else []
    return []
