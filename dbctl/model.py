"""Base classes and values that several packages share: plans, pages, findings, secrets, durations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import ClassVar, Generic, Literal, NoReturn, TypeAlias, TypeVar

import msgspec
from msgspec import structs

from dbctl.errors.base import DbctlError, Exit

K = TypeVar("K")
T = TypeVar("T")
Name = TypeVar("Name", str, bytes)

#: A row with column names and values, for output.
Row = Mapping[str, object]


class StoredRow(dict[str, object]):
    """A row as a database stores it: tables distinguish NULL, ``NULL``, from empty text, ``''``."""


#: What msgspec raises for bytes that are no JSON, have other fields or types, or are nested too deeply.
JSON_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError)

#: Compression of backup files whose engine does not compress them itself.
Compression: TypeAlias = Literal["gzip", "zstd", "none"]

#: How a time is written where the column has no native type.
TimeForm: TypeAlias = Literal["iso-ms", "sqlite-time", "epoch-ms", "epoch-s"]

#: The maximum difference of two correct clocks.
MAX_SKEW = timedelta(minutes=5)

#: Prefixes of text that a spreadsheet evaluates as a formula.
FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all plans and results. Its fields are its JSON; after a release, fields are only added.

    A field named ``extra`` contains further columns of an app; output shows them with their own names.
    """

    listed: ClassVar[Sequence[str]] = ()  #: the fields in the table output, if ``summary`` returns no others

    def summary(self) -> Row | Sequence[Row]:
        """Return the columns of the table output; empty: all fields. Other output formats contain all fields."""
        return {name: getattr(self, name) for name in self.listed}

    def sections(self) -> Mapping[str, Sequence[object]]:
        """Return lists of rows or lines that the table output contains below the table of the summary, by title."""
        return {}

    @property
    def closing(self) -> Closing | None:
        """The closing line of a change or a check; None for a result that only shows something."""
        return None


class Closing(Struct, frozen=True):
    """The parts of a closing line: ``Restored 20261121_080448 in 140 ms: 13 tables, 1,056 rows equal``."""

    text: str  #: a sentence without a period
    details: Sequence[str] = ()
    bytes: int | None = None  #: size of what was written, read or deleted
    is_timed: bool = False  #: whether the line contains the duration of the work


NOTHING_TO_DO = Closing("Nothing to do")


class Effect(Struct, frozen=True):
    """What a change did: ``created``, ``role``, ``["helper"]`` become the closing line ``Created role helper``."""

    verb: str  #: in the past tense
    noun: str  #: what the objects are, in the singular
    names: Sequence[str] = ()  #: of the objects, if they have names
    count: int | None = None  #: of objects without names; None: the noun alone
    place: str = ""  #: the end of the sentence: ``to moved.db``
    details: Sequence[str] = ()  #: further names, such as changed columns
    counts: Mapping[str, int] = {}  #: further numbers by a text in the plural: ``rows deleted``
    bytes: int | None = None  #: size of what was written, read or deleted


def format_counts(counts: Mapping[str, int]) -> list[str]:
    """Return ``1 row deleted``, ``2 failed``: the numbers that are not zero; their texts are in the plural."""
    singular = re.compile(r"(?<=x)es\b|s\b")
    texts = {text: singular.sub("", text, count=1) if count == 1 else text for text, count in counts.items()}
    return [f"{count:,} {texts[text]}" for text, count in counts.items() if count]


class ChangeResult(Struct, frozen=True, kw_only=True):
    """Base of results of changes; ``effect`` becomes the closing line.

    Table output omits them without a terminal, for cron, and contains only their summary on a terminal.
    """

    is_timed: ClassVar[bool] = False  #: whether the closing line contains the duration of the work

    @property
    def effect(self) -> Effect | None:
        """What was changed, also in its JSON; None: nothing."""
        raise NotImplementedError

    @property
    def closing(self) -> Closing:
        """The closing line; it omits numbers that are zero."""
        effect = self.effect
        if effect is None:
            return NOTHING_TO_DO
        count, objects = len(effect.names) or effect.count, effect.noun
        if 1 <= len(effect.names) <= _NAMED:
            objects = f"{effect.noun if count == 1 else effect.noun + 's'} {', '.join(effect.names)}"
        elif count is not None:
            objects = format_count(count, effect.noun)
        text = " ".join(filter(None, [effect.verb[0].upper() + effect.verb[1:], objects, effect.place]))
        details = [*effect.details, *format_counts(effect.counts)]
        return Closing(text, details, bytes=effect.bytes, is_timed=self.is_timed)

    @property
    def lost_output(self) -> Callable[[], str] | None:
        """Returns what is lost if it cannot be written, such as a generated password, and how to get it again; None: nothing."""
        return None

    @property
    def remarks(self) -> Sequence[str]:
        """Notes for the user, which are always printed."""
        return ()

    @property
    def notes(self) -> Sequence[str]:
        """Facts that need no action, which ``--quiet`` omits."""
        return ()

    @property
    def exit_status(self) -> int:
        """The exit code of the command; other than 0 if the change was applied, but a problem remains."""
        return 0


class Secret:
    """Text that is never printed: only ``reveal`` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text; for a driver or hash function, never for a message."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be serialized")


class KeyText(Struct, frozen=True):
    """A key of a user or role as typed, where a name is also possible."""

    text: str


class Trend(tuple[float, ...]):
    """Numbers in the order of time: a sparkline on a terminal, otherwise plain numbers."""

    __slots__ = ()


class RowKey(tuple[object, ...]):
    """The primary key of a row: in a table, the arguments of a command that names the row."""

    __slots__ = ()


class Page(Struct, Generic[T], frozen=True, kw_only=True):
    """A part of a list. ``limit`` is None for all items."""

    items: Sequence[T]
    total: int
    limit: int | None = None
    offset: int = 0
    column_names: Sequence[str] = ()  #: the columns of an item, for output with a header even without items
    empty_message: str = "none"  #: the text for an empty list
    omitted_columns: Sequence[str] = ()  #: in tables: equal in every row, or to another column
    next_key: Sequence[str] = ()  #: for keyset pagination: the key of the last item, as typed

    @property
    def has_more(self) -> bool:
        """Whether further items follow the last one."""
        return self.offset + len(self.items) < self.total


class PageRequest(Struct, frozen=True, kw_only=True):
    """The requested part and order of a list."""

    limit: int | None = None
    offset: int = 0
    sort: str = ""  #: a column, ``-column`` for descending order; empty: the default order

    def find_total(self, row_count: int, count_all: Callable[[], int]) -> int:
        """Return the number of all rows after this part with ``row_count`` rows was read; the last part shows it."""
        is_last = (row_count or not self.offset) and (self.limit is None or row_count < self.limit)
        return self.offset + row_count if is_last else count_all()


class RetainedRows(Struct, frozen=True, kw_only=True):
    """Rows that a deletion leaves unchanged, although they refer to a deleted row."""

    table: str
    column: str  #: the column that refers to the deleted row
    rows: int
    reason: str  #: why they remain


class Plan(Struct, frozen=True, kw_only=True):
    """The exact effects of a change; ``--dry-run`` prints it, and the change does nothing else."""

    title: str
    target: str
    steps: Sequence[str]
    rows: Mapping[str, int] = {}  #: affected rows per table
    #: those of ``rows`` that are deleted, also by foreign keys; empty for restores and migrations
    deleted: Mapping[str, int] = {}
    destructive: bool = False  #: whether it deletes data that the command cannot restore
    #: rows that still refer to a deleted row afterwards; also in ``steps``
    retained: Sequence[RetainedRows] = ()
    failed: Sequence[str] = ()  #: why the command would not do a part of the change; also in ``steps``

    @property
    def digest(self) -> str:
        """SHA-256 over every field, 16 hex digits; equal digests mean equal plans."""
        import hashlib
        import json

        values = [self.title, self.target, list(self.steps), dict(self.rows), self.destructive]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def is_empty(self) -> bool:
        return not self.steps


class DryRunResult(Struct, frozen=True, kw_only=True):
    """Result of a command with ``--dry-run``."""

    plan: Plan

    @property
    def closing(self) -> Closing:
        if self.plan.is_empty:
            return NOTHING_TO_DO
        return Closing(f"Planned {format_count(len(self.plan.steps), 'step')}", ["nothing was changed"])


Severity = Literal["info", "warning", "error"]
#: Names in a closing line; more are counted.
_NAMED = 3
_SEVERITY_NOUNS: Mapping[str, Severity] = {"errors": "error", "warnings": "warning", "remarks": "info"}


class Finding(Struct, frozen=True):
    """One problem that a check reports."""

    target: str
    severity: Severity
    code: str
    message: str
    hint: str = ""
    file: str | None = None  #: the path of the file that has the problem
    line: int | None = None  #: in the file, from 1
    source: str | None = None  #: the text of the line, in SQL

    @classmethod
    def from_error(cls, target: str, error: DbctlError, severity: Severity = "error") -> Finding:
        """Return the failure of a check as a finding, whose message does not repeat the target."""
        return cls(target, severity, error.code, str(error).removeprefix(f"{target}: "), error.hint)

    listed = ("target", "severity", "code", "message", "hint")


def group(pairs: Iterable[tuple[K, T]]) -> dict[K, list[T]]:
    """Return the second values by the first, in their order."""
    groups = dict[K, list[T]]()
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def split_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield consecutive parts with at most ``size`` items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def join_first(names: Sequence[str], limit: int) -> str:
    """Return ``a, b and 3 more``: the first names, and the number of the others."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def sort_by_use(names: Iterable[Name], list_used: Callable[[Name], Iterable[Name]]) -> list[Name]:
    """Return names, each after those that it uses; ``list_used`` may return further names, and circles."""
    result, remaining = list[Name](), dict.fromkeys(names)

    def add(name: Name) -> None:
        if name in remaining:
            del remaining[name]
            for other in list_used(name):
                add(other)
            result.append(name)

    while remaining:
        add(next(iter(remaining)))
    return result


def join_hint(message: str, hint: str) -> str:
    """Return a message and its hint, which may be empty, on one line."""
    return f"{message.removesuffix('.')}. {hint}" if hint else message


def count_severities(findings: Sequence[Finding]) -> dict[str, int]:
    """Return the numbers of ``errors``, ``warnings`` and ``remarks``, for ``Effect.counts``."""
    severities = [finding.severity for finding in findings]
    return {noun: severities.count(severity) for noun, severity in _SEVERITY_NOUNS.items()}


class Findings(Struct, frozen=True, kw_only=True):
    """Result of a check."""

    checked: int  #: number of checked objects
    unit: str = "object"  #: a noun for the checked objects, in the singular
    findings: Sequence[Finding]

    @property
    def closing(self) -> Closing:
        if not (self.checked or self.findings):
            return Closing("Nothing to check")
        counts = format_counts(count_severities(self.findings))
        text = f"Checked {format_count(self.checked, self.unit)}"
        return Closing(text, counts or ["no problems"], is_timed=True)

    @property
    def has_errors(self) -> bool:
        return any(finding.severity == "error" for finding in self.findings)

    @property
    def status(self) -> Exit:
        """The exit code of a command that checks."""
        return Exit.CHECK_FAILED if self.has_errors else Exit.OK

    def raise_warnings(self) -> Findings:
        """Return the findings with each warning as an error, for an option that lets the command fail on warnings."""
        raised = [
            structs.replace(entry, severity="error" if entry.severity == "warning" else entry.severity)
            for entry in self.findings
        ]
        return structs.replace(self, findings=raised)


class CheckResult(Findings, frozen=True, kw_only=True):
    """Result of a check whose hints are commands: each is printed on a separate line, so that it can be copied."""


def now() -> datetime:
    """Return the current time in UTC, truncated to milliseconds (the highest resolution that apps store)."""
    timestamp = datetime.now(UTC)
    return timestamp.replace(microsecond=timestamp.microsecond // 1000 * 1000)


def time_before(age: timedelta) -> datetime:
    """Return the current time minus ``age``, in whole seconds, as apps compare times."""
    return (now() - age).replace(microsecond=0)


def format_count(count: int, noun: str) -> str:
    """Return ``1 row``, ``2,000 rows``, ``3 indexes``."""
    return f"{count:,} {noun}{'' if count == 1 else 'es' if noun.endswith('x') else 's'}"
