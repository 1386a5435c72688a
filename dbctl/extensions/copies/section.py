"""The section about anonymised copies: what replaces the values of each column."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from dbctl.profiles.model.base import DatabaseName, Section
from dbctl.profiles.model.profile import Profile, ProfileSection

#: What replaces a value. ``email`` to ``text`` are pseudonyms; ``date`` shifts a time, ``number`` adds noise, ``json`` is the rule of each
#: text in a document, ``keep`` leaves the value, and ``null`` removes it.
Kind: TypeAlias = Literal[
    "email", "login", "name", "phone", "address", "ip", "url", "token", "password", "text", "date", "number", "json", "keep", "null",
]  # fmt: skip


class ColumnEntry(Section, frozen=True, kw_only=True):
    """A column whose rule depends on the place in a document, or on another column of the row."""

    kind: Literal["json"] | None = None  #: a document: JSON, or values that PHP serialised
    paths: Mapping[str, Kind] = {}  #: the rule of a text in the document, by its keys, joined by dots
    by: str = ""  #: the column of the same table that selects the rule
    values: Mapping[str, Kind] = {}  #: the rule by the value of that column, which may contain ``*``
    rest: Kind = "text"  #: the rule of everything else


class DatabaseEntries(Section, frozen=True, kw_only=True):
    """The rules of one database."""

    #: the rule of a table, whose name may contain ``*``: ``empty`` copies no rows; ``keep`` copies columns without a rule of their own
    tables: Mapping[str, Literal["empty", "keep"]] = {}
    #: the rule of a column, as ``table.column``; both may contain ``*``. ``table.column?`` is optional
    columns: Mapping[str, Kind | ColumnEntry] = {}


class Anonymise(ProfileSection, frozen=True, kw_only=True):
    """``dbctl copy --anonymise``."""

    databases: Mapping[DatabaseName, DatabaseEntries] = {}  #: the rules of each database

    def find_problems(self, profile: Profile) -> Iterator[tuple[Sequence[str | int], str]]:  # noqa: ARG002 - of the base class
        for database, entries in self.databases.items():
            for path, entry in entries.columns.items():
                key = ("databases", database, "columns", path)
                if "." not in path:
                    yield key, "a column is written as `table.column`"
                if isinstance(entry, ColumnEntry) and (entry.kind == "json") == bool(entry.by):
                    yield key, "it needs either kind = 'json' or `by`"


def find_entries(profile: Profile, database: str) -> DatabaseEntries:
    """Return the rules that a profile states for a database."""
    section = profile.extension_section("anonymise", Anonymise)
    return section.databases.get(database, DatabaseEntries()) if section else DatabaseEntries()
