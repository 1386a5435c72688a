"""Definition of a sample: its databases, numbers of rows, accounts and words, read from ``data/PROFILE.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from dbctl.model import Struct

_DATA = Path(__file__).with_name("data")


class Account(Struct, frozen=True, kw_only=True):
    """A user of the sample with a public password."""

    login: str
    password: str
    role: str


class SampleDatabase(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One database of a sample."""

    path: str = ""  #: below the directory; empty: only on a server
    engine: str = "sqlite"
    url: Literal["", "accepted", "required"] = ""  #: whether ``--url`` may or must give its address
    rows: Mapping[str, str] = {}  #: the reported kinds of rows with their tables
    create: Mapping[str, str] = {}  #: pragmas of the new file, if not those of the profile
    tables: Mapping[
        str, Mapping[str, Mapping[str, str]]
    ] = {}  #: by variant: tables of LanceDB with the types of their columns
    indexed: bool = False  #: whether dbctl builds its search indexes
    before: str = ""  #: SQL that runs before the rows are inserted
    after: str = ""  #: SQL that runs afterwards


class SampleDefinition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``data/PROFILE.toml`` defines; the functions that generate the rows are in the module of the app."""

    counts: Mapping[str, int]  #: default numbers of rows by kind
    minimum: Mapping[str, int] = {}  #: numbers of rows that are always created
    databases: Mapping[str, SampleDatabase]  #: in the order in which they are filled
    accounts: Sequence[Account] = ()
    password_of_others: str = ""
    variants: Sequence[str] = ()  #: variants of the schema that ``--variant`` accepts
    schema_variant: str = ""  #: variant of the migrations by default; empty: detected from the database
    private: bool = False  #: whether only the owner may read the files
    claims: Sequence[str] = ()  #: files and folders that must not exist; empty: the files of the databases
    words: Mapping[str, Any] = {}  #: words and constants of the generated rows


def read_data(name: str) -> dict[str, Any]:
    """Return the content of ``data/NAME.toml``."""
    return tomllib.loads((_DATA / f"{name}.toml").read_text(encoding="utf-8"))


def read_definition(profile: str) -> SampleDefinition:
    """Return the definition of the sample of a profile."""
    return msgspec.convert(read_data(profile), SampleDefinition)
