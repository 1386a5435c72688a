"""The section about anonymised copies: what replaces the values of each column."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal, TypeAlias, TypeVar

from dbctl.profiles.model.base import Alternatives, DatabaseName, SchemaName, Section
from dbctl.profiles.model.profile import Profile, ProfileSection

T = TypeVar("T")

#: What replaces a value. ``email`` to ``text`` are pseudonyms; ``date`` shifts a time, ``number`` adds noise, ``json`` is the rule of each
#: text in a document, ``keep`` leaves the value, and ``null`` removes it: where NULL is not allowed, it is a ``token``. ``omit``, in
#: ``values`` alone, copies no row with the value, so that the app creates it again.
Kind: TypeAlias = Literal[
    "email", "login", "name", "phone", "address", "ip", "url", "token", "password", "text", "date", "number", "json", "keep", "null",
    "omit",
]  # fmt: skip


class PartEntry(Section, frozen=True, kw_only=True):
    """A rule for a part of a value, such as the login in ``@ada:example.org``."""

    kind: Kind | None = None  #: the rule of the part; without ``after`` and ``before``, of the value
    after: str = ""  #: the part begins after this text; empty: at the beginning
    before: str = ""  #: it ends before this text, or at the end of the value
    rest: Kind = "text"  #: the rule of everything else: of a value without the part, or of other texts


class ColumnEntry(PartEntry, frozen=True, kw_only=True):
    """A column whose rule depends on a part of the value, on the place in a document, or on other columns of the row."""

    #: of ``json``, and of ``values`` that are: the rule of a text in a document, JSON or serialised by PHP, by its keys, joined by dots;
    #: ``*`` is any text
    paths: Mapping[str, Kind | PartEntry] = {}
    #: of ``json``: the rule of keys of objects and of PHP's arrays, by the key; ``*`` is any text. Other keys are copied, but an original in
    #: them, or in a number of a document, ends the copy; ``"*" = "keep"`` permits both
    keys: Mapping[str, Kind] = {}
    #: the column of the same row that selects the rule; of several, their values are joined by dots
    by: Alternatives = ""
    values: Mapping[str, Kind | PartEntry] = {}  #: the rule by that value; ``*`` is any text


class DatabaseEntries(Section, frozen=True, kw_only=True):
    """The rules of one database.

    The entry of a name precedes what the profile states for other purposes, such as users and secrets; that precedes patterns, of which
    the first that matches is used. A pattern of columns applies to texts, documents, bytes and network addresses, not to numbers and times.
    """

    #: the rule of a table: ``empty`` copies no rows; ``keep`` copies columns without a rule of their own. In its name, ``*`` is any text;
    #: ``name?`` is optional
    tables: Mapping[Annotated[str, SchemaName("table", is_pattern=True)], Literal["empty", "keep"]] = {}
    #: the rule of a column, as ``table.column``; ``*`` in both is any text. ``table.column?`` is optional
    columns: Mapping[Annotated[str, SchemaName("table-path", is_pattern=True)], Kind | ColumnEntry] = {}


class Anonymise(ProfileSection, frozen=True, kw_only=True):
    """``dbctl copy --anonymise``."""

    databases: Mapping[DatabaseName, DatabaseEntries] = {}  #: the rules of each database

    def find_problems(self, profile: Profile) -> Iterator[tuple[Sequence[str | int], str]]:  # noqa: ARG002 - of the base class
        for database, entries in self.databases.items():
            emptied = [name.removesuffix("?") for name, rule in entries.tables.items() if rule == "empty"]
            for path, entry in entries.columns.items():
                key = ("databases", database, "columns", path)
                table, _, column = path.removesuffix("?").rpartition(".")
                if not (table and column):
                    yield key, "a column is written as `table.column`"
                elif table in emptied:
                    yield key, f"no row of {table} is copied"
                if isinstance(entry, ColumnEntry):
                    yield from ((key, reason) for reason in _find_contradictions(entry))
                elif entry == "omit":
                    yield key, "`omit` belongs to `values`"


def _find_contradictions(entry: ColumnEntry) -> Iterator[str]:
    if bool(entry.kind) == bool(entry.by):
        yield "it needs either `kind` or `by`"
    if bool(entry.by) != bool(entry.values):
        yield "`by` and `values` require each other"
    nested = [*entry.values.values(), *entry.paths.values()]
    if (entry.paths or entry.keys) and "json" not in (entry.kind, *_list_kinds(entry.values)):
        yield f"`{'paths' if entry.paths else 'keys'}` requires kind = 'json'"
    if {"json", "password", "null", "date", "number", "omit"} & {*entry.keys.values()}:
        yield "`keys` of documents become pseudonyms, or are copied with 'keep'"
    if "omit" in (entry.kind, entry.rest, *_list_kinds(entry.paths)):
        yield "`omit` belongs to `values`"
    if "json" in _list_kinds(entry.paths):
        yield "a path leads to a text, also in a document inside the document"
    for part in (entry, *(rule for rule in nested if isinstance(rule, PartEntry))):
        if (part.after or part.before) and part.kind in (None, "json", "password", "null", "omit"):
            yield "the part of a value needs a `kind` with a pseudonym"


def _list_kinds(rules: Mapping[str, Kind | PartEntry]) -> list[Kind | None]:
    return [rule.kind if isinstance(rule, PartEntry) else rule for rule in rules.values()]


def find_entries(profile: Profile, database: str) -> DatabaseEntries:
    """Return the rules that a profile states for a database."""
    section = profile.extension_section("anonymise", Anonymise)
    return section.databases.get(database, DatabaseEntries()) if section else DatabaseEntries()


def find_entry(entries: Mapping[str, T], name: str) -> T | None:
    """Return the entry with a name, which may be marked as optional."""
    return entries.get(name) or entries.get(f"{name}?")


def find_pattern(entries: Mapping[str, T], name: str) -> T | None:
    """Return the entry of the first pattern that matches a name."""
    patterns = (glob for glob in entries if "*" in glob and fnmatchcase(name, glob.removesuffix("?")))
    return next((entries[glob] for glob in patterns), None)
