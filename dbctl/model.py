"""The values that rooms hand to each other: plans, pages, findings, secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Generic, Literal, NoReturn, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")

#: A row as a person or a script sees it: column name to value.
Row = Mapping[str, object]

#: Compression of backup files whose engine does not compress them itself.
Compression: TypeAlias = Literal["gzip", "zstd", "none"]


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every plan and result. Its fields are its JSON, so a field is added, never renamed.

    A field named ``extra`` holds an app's further columns; they are shown beside the others under their own names.
    """

    def brief(self) -> Row | Sequence[Row]:
        """Return what a table shows of it to a person; empty: all its fields. Every other form has all of them."""
        return {}


class Done(Value, frozen=True, kw_only=True):
    """Base of what a change answers. Into a pipe a table says nothing about it, so that cron mails only trouble."""

    @property
    def tells(self) -> bool:
        """Whether it holds what is said only this once, such as a password that dbctl made up."""
        return False

    @property
    def remarks(self) -> Sequence[str]:
        """What somebody has to know though it was done; said into a pipe, too."""
        return ()

    @property
    def exit_status(self) -> int:
        """How the command ends; other than 0 where it was done and something is wrong all the same."""
        return 0


class Secret:
    """Text that never shows itself: only ``reveal`` gives it, at the call that needs it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text; for the driver or the hash function, never for a message."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")


class Id(Value, frozen=True):
    """What a person typed as the key of a user or of a role, where its name would not do."""

    text: str


class Page(Value, Generic[T], frozen=True, kw_only=True):
    """Part of a list. ``limit`` is None when everything was asked for."""

    items: Sequence[T]
    total: int
    limit: int | None = None
    offset: int = 0
    names: Sequence[str] = ()  #: the columns of an item, for forms that have a heading even over nothing
    nothing: str = "none"  #: what a person is told where there is no item
    alike: Sequence[str] = ()  #: columns that say the same in every row, and that a table leaves out
    after: Sequence[str] = ()  #: of a list that goes on by its keys: the last one, as a person would type it

    @property
    def has_more(self) -> bool:
        """Whether rows follow the last one of ``items``."""
        return self.offset + len(self.items) < self.total


class Window(Value, frozen=True, kw_only=True):
    """Which part of a list is wanted, and in which order."""

    limit: int | None = None
    offset: int = 0
    sort: str = ""  #: a column, ``-column`` for descending; empty for the list's own order


class Plan(Value, frozen=True, kw_only=True):
    """Exactly what a change would do; ``--dry-run`` prints it, and applying it does this and nothing else."""

    title: str
    target: str
    steps: Sequence[str]
    rows: Mapping[str, int]  #: rows touched per table
    destructive: bool = False  #: whether data is lost that the command does not put back

    @property
    def digest(self) -> str:
        """SHA-256 over every field, 16 hex digits: two equal digests are the same plan."""
        import hashlib
        import json

        told = [self.title, self.target, list(self.steps), dict(self.rows), self.destructive]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.steps


class Planned(Value, frozen=True, kw_only=True):
    """Answer of every command that ran with ``--dry-run``."""

    plan: Plan


Severity = Literal["info", "warning", "error"]


class Finding(Value, frozen=True, kw_only=True):
    """One thing a check found."""

    target: str
    severity: Severity
    code: str
    message: str
    hint: str = ""


class Findings(Value, frozen=True, kw_only=True):
    """Answer of every check."""

    checked: int  #: how many things were looked at
    findings: Sequence[Finding]

    @property
    def unsound(self) -> bool:
        """Whether any finding is an error."""
        return any(finding.severity == "error" for finding in self.findings)


class Examined(Findings, frozen=True, kw_only=True):
    """Answer of a check whose hints are commands: a person gets each on a line of its own, to be copied whole."""


def now() -> datetime:
    """Return the present moment, aware, in UTC, in whole milliseconds (the finest that the apps store)."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def before(age: timedelta) -> datetime:
    """Return the moment ``age`` ago, in whole seconds, as apps compare times: what is older is so for them too."""
    return (now() - age).replace(microsecond=0)


#: Seconds of each unit in which people give a length of time.
SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}


def read_span(text: str) -> timedelta:
    """Read a length of time: ``90s``, ``36h``, ``2w``.

    Raises:
        ValueError: it is none, or longer than anything is old.
    """
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and unit in SPANS):
        raise ValueError(text)
    lasted = int(number) * SPANS[unit] if len(number) <= 9 else None  # noqa: PLR2004 - digits that any unit bears
    if lasted is None or lasted > 1000 * SPANS["y"]:
        raise ValueError(text)
    return timedelta(seconds=lasted)


def is_span(text: str) -> bool:
    """Whether it is a length of time that ``read_span`` reads."""
    try:
        read_span(text)
    except ValueError:
        return False
    return True


def counted(number: int, noun: str) -> str:
    """Return ``1 row``, ``2 rows``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
