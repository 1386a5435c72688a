"""TOML files: read whole, and every complaint about them with the line it belongs to."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

#: A key of a path: the name of a table or value, or the place of a table in an array of tables, from 0.
Key = str | int

_LINE = re.compile(r"at line (\d+), column \d+")
_HEADER = re.compile(r"^\s*(\[\[?)\s*(.*?)\s*\]\]?\s*(#.*)?$")
_NAME = re.compile(r'\s*("(?:[^"\\]|\\.)*"|\'[^\']*\'|[A-Za-z0-9_-]+)\s*(\.|=|$)')


class Mistake(msgspec.Struct, frozen=True):
    """One thing that is wrong in a file: the line, from 1, the dotted key, and why."""

    line: int
    key: str
    reason: str


class TomlError(ValueError):
    """A file that is no TOML, or says what its reader does not understand; at least one mistake."""

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__(mistakes[0].reason)
        self.mistakes = mistakes


def loads(text: str) -> dict[str, Any]:
    """Return what ``text`` says.

    Raises:
        TomlError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _LINE.search(str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        reason = _LINE.sub("", str(error)).strip(" ()")
        raise TomlError(Mistake(line, "TOML", reason[:1].lower() + reason[1:])) from error
    except RecursionError:
        raise TomlError(Mistake(1, "TOML", "it is nested too deeply")) from None


def load(path: Path) -> tuple[dict[str, Any], str]:
    """Return what the file says, and its text (for ``line_of``).

    Raises:
        TomlError: it is not TOML, or not UTF-8.
        OSError: it cannot be read.
    """
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise TomlError(Mistake(raw.count(b"\n", 0, error.start) + 1, "TOML", "it is not UTF-8")) from error
    return loads(text), text


def structure(told: object, kind: type[T], text: str, *, at: Sequence[Key] = ()) -> T:
    """Return what was told as a ``kind``; ``at`` is where in ``text`` it stands.

    The quick conversion says only of the first mistake that there is one; where there is, the same rules as a JSON
    Schema find every one and the exact key of each.

    Raises:
        TomlError: with every mistake, in the order of their lines.
    """
    try:
        return msgspec.convert(told, kind, str_keys=True)
    except msgspec.ValidationError as error:
        from jsonschema import Draft202012Validator  # noqa: PLC0415 - 60 ms, and only after a mistake

        found = []
        for wrong in Draft202012Validator(msgspec.json.schema(kind)).iter_errors(told):
            deepest = max([wrong, *(wrong.context or ())], key=lambda one: len(one.absolute_path))
            path = [*at, *deepest.absolute_path]
            found.append(Mistake(line_of(text, path), dotted(path), deepest.message))
        raise TomlError(
            *(sorted(found, key=lambda one: one.line) or [Mistake(1, dotted(at), str(error))])
        ) from error


def dotted(path: Sequence[Key]) -> str:
    """Return a path as a person writes it: ``users.rules``, ``search[0].keys``."""
    return (
        "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".") or "the file"
    )


def line_of(text: str, path: Sequence[Key]) -> int:
    """Return the line, from 1, on which the value at ``path`` (or the nearest thing around it) is written."""
    here: list[Key] = []
    seen: dict[tuple[Key, ...], int] = {}
    best, best_depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header:
            names = _names(header[2])
            here = _placed(names[:-1], seen)
            if header[1] == "[[":
                at = (*here, names[-1])
                seen[at] = seen.get(at, -1) + 1
            here = _placed(names, seen)
            named: list[Key] = here
        else:
            named = (
                [*here, *_names(line.partition("=")[0])]
                if "=" in line and not line.lstrip().startswith("#")
                else []
            )
        depth = _shared(named, path)
        if depth > best_depth and (depth == len(named) or not header):
            best, best_depth = number, depth
    return best


def _placed(names: Sequence[str], seen: dict[tuple[Key, ...], int]) -> list[Key]:
    """Return ``names`` with the place of the newest table after each name of an array of tables."""
    placed: list[Key] = []
    for name in names:
        placed.append(name)
        if tuple(placed) in seen:
            placed.append(seen[tuple(placed)])
    return placed


def _names(dotted: str) -> list[str]:
    names, at = [], 0
    while found := _NAME.match(dotted, at):
        names.append(found[1].strip("\"'"))
        at = found.end()
        if found[2] != ".":
            break
    return names


def _shared(one: Sequence[Key], other: Sequence[Key]) -> int:
    depth = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        depth += 1
    return depth
