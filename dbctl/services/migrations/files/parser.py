"""What one file of migrations holds: its way up, its way down, and what it asks of whoever runs it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import structs

from dbctl.engines.contract import Language
from dbctl.model import Value
from dbctl.profiles.model import Format
from dbctl.services.app import question
from dbctl.services.migrations.lint_rules import KINDS

#: What begins a section, by format: a comment that is a line of its own. What dbmate says behind is an option.
_MARKS: dict[str, tuple[re.Pattern[str], re.Pattern[str]]] = {
    "up-down": (re.compile(r"up", re.IGNORECASE), re.compile(r"down", re.IGNORECASE)),
    "dbmate": (
        re.compile(r"migrate:up(?:\s.*)?", re.IGNORECASE),
        re.compile(r"migrate:down(?:\s.*)?", re.IGNORECASE),
    ),
    "goose": (re.compile(r"\+goose\s+up", re.IGNORECASE), re.compile(r"\+goose\s+down", re.IGNORECASE)),
}
#: What such a runner takes for a marker, wherever it stands: it looks at the text alone.
_SEEN: dict[str, re.Pattern[str]] = {
    "up-down": re.compile(r"--\s*down", re.IGNORECASE),
    "dbmate": re.compile(r"^--\s*migrate:(?:up|down)\b", re.MULTILINE),
    "goose": re.compile(r"^--\s*\+goose\s+(?:up|down)\b", re.MULTILINE | re.IGNORECASE),
}
#: Formats whose own runner refuses a file without a way up that is marked.
_MARKED = ("dbmate", "goose")
_OUTSIDE = re.compile(
    r"migrate:(?:up|down)\s.*\btransaction\s*:\s*false\b.*|\+goose\s+no\s+transaction", re.IGNORECASE
)
_UNKNOWN = re.compile(r"\+goose\s+envsub\s+on", re.IGNORECASE)
_ASKS = re.compile(r"dbctl\s*:(?P<words>.*)", re.IGNORECASE)
#: What a file may ask for, on a line ``-- dbctl: WORD``: in a section for that one, above the first for all of them.
NO_TRANSACTION, LOSES_ROWS = "no-transaction", "allow-data-loss"
#: And what lint is to leave unsaid, on a line ``-- dbctl: allow CODE``: of the next statement; of the whole file above the
#: first section or, where there are none, above the blank line before the first statement.
ALLOW = "allow"
_LIKELY = re.compile(r"--[ \t]*(?:up|down|migrate:|\+goose|dbctl[ \t]*:)", re.IGNORECASE)


class Allowed(Value, frozen=True):
    """What lint is to leave unsaid."""

    code: str
    line: int  #: where the file says so
    everywhere: bool  #: of all of it; else of the statement that comes next


class Section(Value, frozen=True, kw_only=True):
    """One way, as text in which the lines of the other are blank, so that each line keeps its number."""

    text: str
    outside: bool = False  #: its statements run one by one, outside a transaction
    loses_rows: bool = False  #: it is meant to take rows away
    begins: int = 0  #: on which line a marker does; 0: there is none, and it is the whole file
    hidden: Sequence[
        int
    ] = ()  #: lines where the runner of its format, which knows no SQL, sees the next marker
    allowed: Sequence[Allowed] = ()


class Sections(Value, frozen=True, kw_only=True):
    """Both ways of one file."""

    up: Section
    down: Section | None = None


class _Mark(Value, frozen=True):
    line: int
    way: str
    outside: bool


def sections(text: str, format: Format, language: Language) -> Sections:  # noqa: A002 - the profile's word
    """Take a file apart.

    Markers are comments that are lines of their own; what looks like one in a string, in another comment, in brackets
    or in the body of a trigger is none.

    Args:
        text: the file.
        format: how its folder is laid out; in one that is only ``found`` a file may use any of the markers.
        language: how the engine reads it.

    Raises:
        ValueError: the markers make no sense, or it asks for what nobody knows; the message says on which line.
    """
    text = text.removeprefix("\ufeff")
    remarks = language.remarks(text) if _LIKELY.search(text) else []
    family = _family(format, remarks)
    marks = _marks(family, remarks)
    first = marks[0].line if marks else 0
    asked_for, allowing = _asked(remarks)
    everywhere = {word for line, word in asked_for if line < first or not marks}
    if any(_OUTSIDE.fullmatch(told) for _, told in remarks if told.startswith("+")):
        everywhere.add(NO_TRANSACTION)
    if not marks:
        if format in _MARKED:
            raise ValueError(f"it has no line that begins the way up ({_BEGINNINGS[format][0]})")
        top = _top(text, language) if allowing else 0
        allowed = [Allowed(code, line, everywhere=line < top) for line, code in allowing]
        return Sections(up=_section(text, everywhere, allowed))
    lines = text.splitlines(keepends=True)
    if language.split("".join(lines[: first - 1])):
        raise ValueError(f"a statement above line {first}, where the way up begins, would not be run")
    ends = [*(mark.line for mark in marks[1:]), len(lines) + 1]
    found: dict[str, Section] = {}
    for mark, end in zip(marks, ends, strict=True):
        asked = everywhere | {word for line, word in asked_for if mark.line < line < end}
        asked |= {NO_TRANSACTION} if mark.outside else set()
        allowed = [
            Allowed(code, line, everywhere=line < first)
            for line, code in allowing
            if line < first or mark.line < line < end
        ]
        body = "\n" * mark.line + "".join(lines[mark.line : end - 1])
        found[mark.way] = structs.replace(
            _section(body, asked, allowed), begins=mark.line, hidden=_hidden(family, body)
        )
    return Sections(up=found["up"], down=found.get("down"))


def _section(text: str, asked: set[str], allowed: Sequence[Allowed]) -> Section:
    return Section(
        text=text, outside=NO_TRANSACTION in asked, loses_rows=LOSES_ROWS in asked, allowed=allowed
    )


def _hidden(family: str, body: str) -> list[int]:
    """Return the lines of a section on which a runner that reads no SQL would see it end."""
    return [body.count("\n", 0, found.start()) + 1 for found in _SEEN[family].finditer(body)]


def _top(text: str, language: Language) -> int:
    """Return the last blank line above the first statement; 0 where there is none."""
    statements = language.split(text)
    lines = text.splitlines()[: statements[0][0] - 1 if statements else 0]
    return max((number for number, line in enumerate(lines, 1) if not line.strip()), default=0)


def _family(format: Format, remarks: Sequence[tuple[int, str]]) -> str:  # noqa: A002 - as above
    """Return whose markers count."""
    if format != "found":
        return format
    used = [
        family
        for family, ways in _MARKS.items()
        if any(way.fullmatch(told) for way in ways for _, told in remarks)
    ]
    if len(used) > 1:
        raise ValueError(f"it has markers of {' and of '.join(used)}")
    return used[0] if used else format


def _marks(family: str, remarks: Sequence[tuple[int, str]]) -> list[_Mark]:
    found: list[_Mark] = []
    for line, told in remarks:
        if _UNKNOWN.fullmatch(told):
            raise ValueError(
                f"line {line}: goose would fill in variables of the environment, which dbctl does not"
            )
        for way, pattern in zip(("up", "down"), _MARKS.get(family, ()), strict=False):
            if not pattern.fullmatch(told):
                continue
            if way in [one.way for one in found]:
                raise ValueError(f"line {line}: the way {way} begins a second time")
            if way == "down" and not found:
                raise ValueError(f"line {line}: the way down begins before the way up")
            found.append(_Mark(line, way, _OUTSIDE.fullmatch(told) is not None))
    return found


def _asked(remarks: Sequence[tuple[int, str]]) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Return what is asked for on lines ``-- dbctl: WORD``, and the codes on lines ``-- dbctl: allow CODE``."""
    found, allowing = list[tuple[int, str]](), list[tuple[int, str]]()
    for line, told in remarks:
        if not (matched := _ASKS.fullmatch(told)):
            continue
        words = re.split(r"[\s,]+", matched["words"].strip().lower())
        if words[0] == ALLOW:
            allowing += [(line, _code(word, line)) for word in words[1:] or [""]]
            continue
        for word in words:
            if word not in (NO_TRANSACTION, LOSES_ROWS):
                raise ValueError(
                    f"line {line}: -- dbctl: {word or '…'} is not known; {NO_TRANSACTION}, {LOSES_ROWS} and {ALLOW} are"
                )
            found.append((line, word))
    return found, allowing


def _code(word: str, line: int) -> str:
    if word not in KINDS:
        meant = question(word, KINDS)
        raise ValueError(
            f"line {line}: -- dbctl: {ALLOW} {word or '…'}: lint finds nothing of that name{meant}"
        )
    return word


#: The lines that begin a way up and a way down, by format.
_BEGINNINGS = {
    "up-down": ("-- Up", "-- Down"),
    "dbmate": ("-- migrate:up", "-- migrate:down"),
    "goose": ("-- +goose Up", "-- +goose Down"),
}


def beginnings(newest: str, format: Format, language: Language) -> tuple[str, str]:  # noqa: A002 - as above
    """Return the lines that begin the ways in a new file, as the ``newest`` of its folder has them; empty where none do."""
    family = _family(format, language.remarks(newest))
    return _BEGINNINGS.get("dbmate" if family == "found" and not newest.strip() else family, ("", ""))
