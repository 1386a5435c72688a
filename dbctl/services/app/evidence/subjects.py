"""A check, and its subject: a database opens on first use, and each of its tables is sampled once; the forms of sampled values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import Flag, auto
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import structs

from dbctl.config.sections import Selection
from dbctl.engines.contract.database import Column, Readable
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.files import toml
from dbctl.model import Finding, Severity, Struct
from dbctl.profiles import loader
from dbctl.profiles.codecs import BooleanCodec, KeyCodec, recognize_time
from dbctl.profiles.model.databases import Database
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.services.app.user_roles.form import BOOLEAN_TYPE, WHOLE_TYPE
from dbctl.spec import Fact

if TYPE_CHECKING:  # a command that writes examines neither files nor all tables
    from dbctl.engines.contract.checks import DatabaseFiles

T = TypeVar("T")
UNREADABLE = "table-unreadable"  #: the code of a table that the role may not read

#: What a check examines: a file of the configuration, the app, each database, that of the users, that of the cleanup if it can be
#: read, or a section of the profile.
Scope: TypeAlias = Literal[
    "file", "app", "database", "users", "cleanup", "known_login", "link", "recount", "invariant", "key_search", "rebuild"
]  # fmt: skip


class Needs(Flag):
    """What must be open for a check, which is its cost."""

    NOTHING = 0
    FILES = auto()  #: the files of the database
    READ = auto()  #: the database
    SCAN = auto()  #: all its rows


class Contradiction(Struct, frozen=True):
    """A key of the profile that the live database contradicts, or with which it cannot be compared."""

    key: Sequence[str | int]
    code: str  #: of the finding
    reason: str
    remedy: str
    severity: Severity = "error"

    def locate(self, app: App) -> toml.Problem:
        """Return where the file of the profile has the key."""
        text = toml.read_text(loader.path_of(app.configured.profile))
        return toml.create_problem(text, app.locate_key(self.key), self.reason)


def create_unreadable(key: Sequence[str | int], error: PrivilegeMissingError) -> Contradiction:
    """Return the finding about rows that were not compared with the profile; ``error`` names their table."""
    return Contradiction(
        key, UNREADABLE, str(error.context["reason"]), f"The table was not checked. {error.hint}", "warning"
    )


class DoesNotApplyError(Exception):
    """A check does not apply to its subject; see ``require``."""


def require(value: T | None) -> T:
    """Return what a check requires of its subject, such as a part of the engine; without it, the check does not apply."""
    if not value:
        raise DoesNotApplyError
    return value


class Check(Struct, frozen=True):
    """One check; the sets of checks (``dbctl.services.checks.base``) name it."""

    code: str  #: of its finding, or of the first of several
    run: Callable[[Any], Iterable[Finding | Contradiction]]  #: receives a subject of the scope
    scope: Scope = "database"
    needs: Needs = Needs.READ
    fact: Fact | None = None  #: a command that writes by this fact is refused if the check finds an error
    is_gate: bool = False  #: if it fails, the database is not checked further


def check(
    code: str, scope: Scope = "database", needs: Needs = Needs.READ, *, is_gate: bool = False
) -> Callable[[Callable[[Any], Iterable[Finding | Contradiction]]], Check]:
    """Declare the function below as a check; see ``Check``."""
    return lambda run: Check(code, run, scope, needs, is_gate=is_gate)


class Subject(msgspec.Struct, dict=True, eq=False):
    """What checks examine: an app, one of its databases or tables, or an entry of its profile about a database."""

    app: App
    database: str = ""  #: empty: the app itself
    table: str = ""  #: restricts the checks to one table
    entry: Any = None  #: the section of the profile that a check compares with the database
    figure: str = ""  #: one figure of a section about statistics
    quick: bool = False  #: whether to skip slow checks
    selection: Selection = Selection()  #: the options of the command line
    opened: Readable | None = None  #: the database, if it is open for writing
    is_excluded: bool = False  #: an earlier check could not read it
    damage: Sequence[Finding] = ()  #: that an earlier check found
    broken_indexes: Sequence[str] = ()  #: the lines of that check about full-text indexes

    @property
    def target(self) -> str:
        """Its name in findings."""
        return self.app.target(self.database) if self.database else self.app.name

    @cached_property
    def databases(self) -> Mapping[str, Subject]:
        """The selected databases of the app, by name."""
        names = [name for name in self.app.core.databases if self.app.only in ("", name)]
        return {name: structs.replace(self, database=name) for name in names}

    def open(self, needs: Needs) -> None:
        if needs:
            _ = self.files if needs is Needs.FILES else self.db

    @property
    def db(self) -> Readable:
        """The database, opened for reading."""
        return self.opened or self.app.reader(self.database)

    @property
    def section(self) -> Database:
        """The section of the profile about the database."""
        return self.app.database(self.database)

    @cached_property
    def files(self) -> DatabaseFiles | None:
        """The files of the database; None: it is on a server."""
        return self.app.engine(self.database).database_files(self.app.url(self.database))

    @property
    def is_writable(self) -> bool:
        """Whether dbctl may write the database."""
        return self.section.mode == "read-write" and self.database not in self.app.replicas

    @property
    def has_users(self) -> bool:
        """Whether the users of the app, or what belongs to them, are in the database."""
        return self.app.resolve_database(self.app.core.users) == self.database

    def finding(
        self, severity: Severity, code: str, message: str, hint: Remedy | str = "", **facts: object
    ) -> Finding:
        """Return a finding about the subject; ``facts`` fill the placeholders of the hint, also ``{database}``."""
        if isinstance(hint, Remedy):
            hint = hint.write(self.app.name, {"database": self.database, **facts})
        return Finding(self.target, severity, code, message, hint)

    @cached_property
    def named_columns(self) -> Mapping[str, tuple[Sequence[str | int], Sequence[str]]]:
        """The tables that the profile names: the first key that names each, and its columns that exist."""
        from dbctl.profiles.schema_references import list_schema_references

        keys, columns = dict[str, Sequence[str | int]](), dict[str, dict[str, None]]()
        for reference in list_schema_references(self.app.profile, self.app.main_database):
            table = self.db.tables().get(reference.table)
            if reference.database == self.database and table:
                keys.setdefault(table.name, reference.key)
                names = columns.setdefault(table.name, {})
                if column := find_column(table, reference.column):
                    names[column] = None
        return {
            name: (keys[name], [*names] or [*self.db.tables()[name].columns][:1])
            for name, names in columns.items()
        }

    def find_denial(self, table: str) -> PrivilegeMissingError | None:
        """Return why the role may not read every column of a table that the profile names."""
        error = self._sample_named(table)
        if error is None or isinstance(error, PrivilegeMissingError):
            return error
        raise error

    def sample(self, table: str, columns: Sequence[str]) -> list[tuple[object, ...]]:
        """Return columns of rows at both ends of a table, without NULL in the last one; empty if it cannot be read in time.

        The first sample of a table has all columns that the profile names, for other checks; a command that writes reads only
        those that it needs.
        """
        if not self.opened and set(columns) <= set(self.named_columns.get(table, ((), ()))[1]):
            self._sample_named(table)  # if the role may read some columns only, each check reads its own
        rows = LiveTable(self.app.core, self.db, table, "checks").sample(columns)
        return [row for row in rows if row[-1] is not None]

    @cached_property
    def _denials(self) -> dict[str, DbctlError | None]:
        return {}

    def _sample_named(self, table: str) -> DbctlError | None:
        """Read the sample of all columns that the profile names; return why they cannot be read."""
        if table not in self._denials:
            self._denials[table] = None
            try:
                LiveTable(self.app.core, self.db, table, "checks").sample(self.named_columns[table][1])
            except DbctlError as error:
                self._denials[table] = error
        return self._denials[table]


TIME_TYPE = r"DATE|TIME"
TEXT_TYPE = r"CHAR|TEXT|CLOB|STRING|UUID|CITEXT|^$"
_KEYS: Mapping[KeyCodec, tuple[str, str]] = {
    "uuid4": (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUIDs"),
    "cuid": (r"c[0-9a-z]{24}", "CUIDs"),
    "object-id": (r"[0-9a-f]{24}", "object ids"),
    "cuid2": (r"(?=.*[0-9])[a-z][0-9a-z]{23}", "CUIDs of version 2"),
}
#: The form of the random texts of each generator of profiles, the narrowest first.
_GENERATORS: Mapping[str, str] = {
    "uuid4": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "cuid": _KEYS["cuid"][0],
    "hex-{}": r"(?=.*[a-f])((?=.*[0-9])[0-9a-f]{16,31}|[0-9a-f]{32,128})",
    "cuid2": _KEYS["cuid2"][0],
    "base36-{}": r"(?=.*[a-z])(?=.*[0-9])[0-9a-z]{16,128}",
    "alphanumeric-{}": r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])[0-9A-Za-z]{16,128}",
    "base64url-{}": r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])[0-9A-Za-z_-]{16,128}",
}


def count_time_forms(values: Iterable[object]) -> Counter[str]:
    return Counter(form for value in values if (form := recognize_time(value)))


def is_time(column: Column, values: Iterable[object]) -> bool:
    stored = [value for value in values if value not in ("", 0)]
    if column.native == "time" or any(isinstance(value, datetime) for value in stored):
        return True
    if stored:
        return all(map(recognize_time, stored))
    return bool(re.search(TIME_TYPE, column.type))


def is_boolean(column: Column, values: Iterable[object]) -> bool:
    """Return whether a column stores booleans: by its type, or numbers of which none is larger than 1."""
    if column.native == "boolean" or re.fullmatch(BOOLEAN_TYPE, column.type):
        return True
    stored = list(values)
    return (
        bool(re.search(WHOLE_TYPE, column.type))
        and not column.is_primary_key
        and all(value in (0, 1) for value in stored)
        and bool(stored)
    )


def is_text(column: Column) -> bool:
    return bool(re.search(TEXT_TYPE, column.type)) and not column.native


def is_whole(column: Column) -> bool:
    """Return whether a column has a type of integers."""
    return bool(re.search(WHOLE_TYPE, column.type)) and not re.fullmatch(BOOLEAN_TYPE, column.type)


def guess_key_codec(column: Column, values: list[object]) -> tuple[KeyCodec, str]:
    """Return how new keys are created, and the evidence."""
    if is_whole(column):
        if not column.required:
            return "autoincrement", "the database creates the keys"
        return "given", "integers that the database does not create"
    texts = [str(value) for value in values]
    total = len(texts)
    for codec, (pattern, label) in _KEYS.items():
        count = sum(1 for text in texts if re.fullmatch(pattern, text, re.IGNORECASE))
        if count and 2 * count > total:
            return codec, f"{count} of {total} keys are {label}"
    if column.native == "uuid":
        return "uuid4", "the type of the column"
    return (
        "given",
        f"no known form of keys in {total} rows: a new user requires --set id=KEY" if total else "no rows",
    )


def guess_generator(texts: Sequence[str]) -> str:
    """Return the generator of a profile (``:uuid4``) that creates texts of the form of all these; empty: none does, or one is repeated."""
    if not texts or len(set(texts)) < len(texts) or len(set(map(len, texts))) > 1:
        return ""
    for name, pattern in _GENERATORS.items():
        if all(re.fullmatch(pattern, text) for text in texts):
            return f":{name.format(len(texts[0]))}"
    return ""


def boolean_form(values: Iterable[object]) -> Counter[BooleanCodec]:
    """Return the number of values in each form of booleans, without native ones."""
    counter = Counter[BooleanCodec]()
    for value in values:
        if isinstance(value, bool):
            continue
        if value in (0, 1):
            counter["bool-01"] += 1
        elif str(value).lower() in ("true", "false"):
            counter["bool-text"] += 1
    return counter
