"""TOML files: read whole, and every complaint about them with the line it belongs to."""

from __future__ import annotations

import re
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from dbctl.files.atomic import read_settings_bytes

T = TypeVar("T")

#: A key of a path: the name of a table or value, or the place of a table in an array of tables, from 0.
Key = str | int

LONGEST_SHOWN = 40  #: characters of a wrong value in a message
MOST_CHARACTERS = 4 << 20  #: of a file; the largest profile that is shipped has 28 thousand
MOST_PARTS = 64  #: of a dotted key: tomllib needs memory for the square of their number
MOST_MISTAKES = 100  #: that one file is reported with
#: What JSON Schema calls a kind of value, in the words of TOML.
KINDS = {
    "object": "table",
    "array": "list",
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "boolean",
}

_LINE = r" \(at line (\d+), column \d+\)"
#: Messages of tomllib about a key or table that is defined twice, and plainer ones.
_PLAINER = {
    r"^Cannot overwrite a value": "this key is there already",
    r"^Duplicate inline table key": "there already is a key",
    r"^Cannot declare .* twice": "this table is there already",
    r"^Cannot mutate immutable namespace .*": "this table was closed already, by braces or brackets",
}
_HEADER = r"^\s*(\[\[?)\s*(.*?)\s*\]\]?\s*(#.*)?$"
_BARE = r"[A-Za-z0-9_-]+"
#: Possessive, and only where a word begins: linear in the length of any text.
_DEEP_KEY = r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+)""" + f"{{{MOST_PARTS}}}"
_NAME = r'\s*("(?:[^"\\]|\\.)*"|\'[^\']*\'|[A-Za-z0-9_-]+)\s*(\.|=|$)'


class Mistake(msgspec.Struct, frozen=True):
    """One thing that is wrong in a file: the line, from 1, the dotted key, and why."""

    line: int
    key: str
    reason: str


class TomlError(ValueError):
    """A file that is not TOML, or holds what its reader does not accept; at least one mistake."""

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__(mistakes[0].reason)
        self.mistakes = mistakes


def loads(text: str) -> dict[str, Any]:
    """Return the tables and values of ``text``.

    Raises:
        TomlError: it is not TOML.
    """
    import tomllib

    if len(text) > MOST_CHARACTERS:
        raise TomlError(Mistake(1, "TOML", f"the file is longer than {MOST_CHARACTERS:,} characters"))
    if deep_key := re.search(_DEEP_KEY, text):
        line = text.count("\n", 0, deep_key.start()) + 1
        raise TomlError(Mistake(line, "TOML", f"a key has more than {MOST_PARTS} parts"))
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(_LINE, str(error))
        line = int(match[1]) if match else text.count("\n") + 1
        reason = re.sub(_LINE, "", str(error)).strip()
        for words, plainer in _PLAINER.items():
            reason = re.sub(words, plainer, reason)
        raise TomlError(Mistake(line, "TOML", reason[:1].lower() + reason[1:])) from error
    except RecursionError:
        raise TomlError(Mistake(1, "TOML", "it is nested too deeply")) from None
    except ValueError as error:  # a number with more digits than Python converts
        digits = re.search(f"[0-9_]{{{sys.get_int_max_str_digits()}}}", text)
        line = text.count("\n", 0, digits.start()) + 1 if digits else 1
        raise TomlError(Mistake(line, "TOML", "a number has too many digits")) from error


def load(path: Path) -> tuple[dict[str, Any], str]:
    """Return the tables and values of the file, and its text (for ``line_of``).

    Raises:
        TomlError: it is not TOML, or not UTF-8.
        OSError: it cannot be read.
    """
    raw = read_settings_bytes(path, 4 * MOST_CHARACTERS).removeprefix(BOM_UTF8)
    try:
        text = raw.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise TomlError(Mistake(raw.count(b"\n", 0, error.start) + 1, "TOML", "it is not UTF-8")) from error
    return loads(text), text


def structure(value: object, kind: type[T], text: str, *, at: Sequence[Key] = ()) -> T:
    """Convert a value of a file to a ``kind``; ``at`` is its path in ``text``.

    The quick conversion reports only that there is a first mistake; the same rules as a JSON Schema then find every
    mistake and its exact key.

    Raises:
        TomlError: with every mistake, in the order of their lines.
    """
    try:
        return msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as error:
        from jsonschema import Draft202012Validator

        complaints = Draft202012Validator(msgspec.json.schema(kind)).iter_errors(value)
        reasons: dict[tuple[Key, ...], str] = {}
        for complaint in complaints:
            for path, reason in _reasons(complaint):
                reasons[(*at, *path)] = reason
                if len(reasons) > MOST_MISTAKES:
                    break
            else:
                continue
            break
        mistakes = sorted(
            (mistake(text, path, reason) for path, reason in reasons.items()), key=lambda entry: entry.line
        )
        if len(mistakes) > MOST_MISTAKES:
            mistakes[MOST_MISTAKES:] = [
                Mistake(mistakes[-1].line, dotted(at), "further mistakes are not listed")
            ]
        raise TomlError(*(mistakes or [Mistake(1, dotted(at), str(error))])) from error


def _reasons(error: Any) -> Iterator[tuple[list[Key], str]]:
    """Yield where and why, of one complaint of the validator: every unknown key on its own, with the near ones."""
    from difflib import get_close_matches

    path = list(error.absolute_path)
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        for key in error.instance:
            if key not in known:
                near = get_close_matches(key, known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
                yield [*path, key], f"unknown key; {hint}"
    elif error.validator == "required":
        for key in error.validator_value:
            if key not in error.instance:
                yield [*path, key], "it is missing"
    elif error.validator == "anyOf" and (inner := _inside(error)):
        for complaint in inner:
            yield from _reasons(complaint)
    else:
        yield path, _in_words(error)


def _inside(error: Any) -> list[Any]:
    """Return the complaints of the alternative whose kind the value has."""
    alternatives: dict[object, list[Any]] = {}
    for complaint in error.context:
        alternatives.setdefault(complaint.schema_path[0], []).append(complaint)
    candidates = [
        complaints
        for complaints in alternatives.values()
        if not any(complaint.validator in ("type", "enum") and not complaint.path for complaint in complaints)
    ]
    return min(candidates, key=len) if candidates else []


def _in_words(error: Any) -> str:
    shown = repr(error.instance)
    shown = shown if len(shown) <= LONGEST_SHOWN else shown[:LONGEST_SHOWN] + "…"
    if error.validator == "type":
        expected = (
            [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
        )
        return f"{shown} is no {' or '.join(KINDS.get(kind, kind) for kind in expected)}"
    if error.validator == "anyOf":
        kinds = [
            KINDS.get(complaint.validator_value, "")
            for complaint in error.context
            if complaint.validator == "type"
        ]
        return (
            f"{shown} is no {' or '.join(dict.fromkeys(filter(None, kinds)))}"
            if any(kinds)
            else f"{shown} does not fit"
        )
    if error.validator == "enum":
        return f"{shown} is none of {', '.join(map(str, error.validator_value))}"
    return str(error.message) if len(error.message) <= 3 * LONGEST_SHOWN else f"{shown} does not fit"


def mistake(text: str, path: Sequence[Key], reason: str) -> Mistake:
    """Return what is wrong at ``path``, with its line in ``text``."""
    return Mistake(line_of(text, path), dotted(path), reason)


def quoted(text: str, *, value: bool = False) -> str:
    """Return ``text`` as a file writes it: a key without quotes where it needs none, a value with them."""
    if not value and re.fullmatch(_BARE, text):
        return text
    escaped = "".join(
        f"\\{letter}" if letter in '"\\' else letter if letter.isprintable() else f"\\U{ord(letter):08X}"
        for letter in text
    )
    return f'"{escaped}"'


def dotted(path: Sequence[Key]) -> str:
    """Return a path as a person writes it: ``users.rules``, ``search[0].keys``."""
    return (
        "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".") or "the file"
    )


def line_of(text: str, path: Sequence[Key]) -> int:
    """Return the line, from 1, on which the value at ``path`` (or the nearest thing around it) is written."""
    index = _line_index(text)
    if line := index.headers.get(tuple(path)):
        return min(line, index.keys.get(tuple(path), line))
    for length in range(len(path), 0, -1):
        if line := index.keys.get(tuple(path[:length])):
            return line
    return 1


class _LineIndex(NamedTuple):
    """The first line, from 1, of each path: of whole headers and (parts of) keys, and of parts of headers."""

    keys: dict[tuple[Key, ...], int]
    headers: dict[tuple[Key, ...], int]


@lru_cache(maxsize=2)  # many mistakes of one file
def _line_index(text: str) -> _LineIndex:
    index = _LineIndex({}, {})
    table: list[Key] = []
    shortest = 1  # prefix of a key's path that no line before has
    seen: dict[tuple[Key, ...], int] = {}
    closing = ""  # the mark that ends the text of several lines which is open
    for number, line in enumerate(text.splitlines(), 1):
        if closing:
            closing = "" if closing in line else closing
            continue
        header = re.match(_HEADER, line)
        if header:
            names = _names(header[2], "")
            table = _placed(names[:-1], seen)
            if header[1] == "[[":
                array = (*table, names[-1])
                seen[array] = seen.get(array, -1) + 1
            path = table = _placed(names, seen)
            index.keys.setdefault(tuple(path), number)
            for length in range(1, len(path) + 1):
                index.headers.setdefault(tuple(path[:length]), number)
            shortest = 1
            continue
        closing = next((mark for mark in ('"""', "'''") if line.count(mark) == 1), "")
        if names := _names(line, "="):
            path = [*table, *names]
            for length in range(shortest, len(path) + 1):
                index.keys.setdefault(tuple(path[:length]), number)
            shortest = len(table) + 1
    return index


def _placed(names: Sequence[str], seen: dict[tuple[Key, ...], int]) -> list[Key]:
    """Return ``names`` with the place of the newest table after each name of an array of tables."""
    placed: list[Key] = []
    for name in names:
        placed.append(name)
        if tuple(placed) in seen:
            placed.append(seen[tuple(placed)])
    return placed


def _names(written: str, end: str) -> list[str]:
    """Return the names of a dotted key that ``end`` follows; none where that is not what is written."""
    name, names, at = re.compile(_NAME), [], 0
    while match := name.match(written, at):
        names.append(match[1].strip("\"'"))
        at = match.end()
        if match[2] != ".":
            return names if match[2] == end else []
    return []
