"""Definition of a sample: its databases, numbers of rows, accounts and words, read from ``data/PROFILE.toml``, and what a user may choose."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from dbctl.errors.migrations import MigrationVariantUnknownError
from dbctl.errors.usage import FeatureMissingError, NotSupportedError, UsageError, ValueInvalidError
from dbctl.model import Struct
from dbctl.profiles.loader import load
from dbctl.url import Url, resolve_engine

_DATA = Path(__file__).with_name("data")
#: Profiles with a sample: ``data/PROFILE.toml`` defines it, and the module of the same name generates its rows.
SAMPLES = ("chat-lancedb", "flashpoint-web", "promptvault", "waqtor", "yaai")
#: The maximum number of each kind of row, so that a typing error does not fill the disk.
MAX_ROWS = 10_000_000


class Account(Struct, frozen=True, kw_only=True):
    """A user of the sample with a public password."""

    login: str
    password: str
    role: str


class SampleDatabase(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: str = ""  #: below the directory; empty: only on a server
    engine: str = "sqlite"
    url: Literal["", "accepted", "required"] = ""  #: whether ``--url`` may or must give its address
    rows: Mapping[str, str] = {}  #: the reported kinds of rows with their tables
    create: Mapping[str, str] = {}  #: pragmas of the new file, if not those of the profile
    #: by variant: tables of LanceDB with the types of their columns
    tables: Mapping[str, Mapping[str, Mapping[str, str]]] = {}
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
    """Return the definition of the sample of a profile.

    Raises:
        NotSupportedError: the profile has no sample.
    """
    if profile not in SAMPLES:
        raise NotSupportedError(
            feature=f"a sample of {profile}",
            subject="dbctl demo",
            hint=f"Profiles with a sample: {', '.join(SAMPLES)}.",
        )
    return msgspec.convert(read_data(profile), SampleDefinition)


def resolve_counts(profile: str, overrides: Mapping[str, int | None]) -> dict[str, int]:
    """Return the numbers of rows of a sample: the defaults with ``overrides``.

    Raises:
        NotSupportedError: the profile has no sample, or the sample has no rows of this kind.
        ValueInvalidError: a number is negative or too large.
    """
    counts = dict(read_definition(profile).counts)
    for kind, count in overrides.items():
        if count is None:
            continue
        if kind not in counts:
            raise NotSupportedError(
                feature=f"--{kind}", subject=f"a sample of {profile}", hint=f"It has: {', '.join(counts)}."
            )
        if count < 0:
            raise ValueInvalidError(name=f"the number of {kind}", value=count, reason="it is negative")
        if count > MAX_ROWS:
            raise ValueInvalidError(
                name=f"the number of {kind}", value=count, reason=f"a sample has at most {MAX_ROWS:,}"
            )
        counts[kind] = count
    return counts


def check_urls(profile: str, urls: Mapping[str, Url]) -> None:
    """Refuse databases that the sample does not fill, and required databases without an address.

    Raises:
        NotSupportedError: the profile has no sample, or its sample does not accept an address, or not one of this engine.
        UsageError: a database must be on a server and has no address.
    """
    databases = {
        name: database for name, database in read_definition(profile).databases.items() if database.url
    }
    for name in urls:
        if name not in databases:
            accepted = ", ".join(f"--url {name}=URL" for name in databases)
            raise NotSupportedError(
                feature=f"--url {name}=…",
                subject=f"a sample of {profile}",
                hint=f"It accepts {accepted}." if accepted else "It creates its databases in its directory.",
            )
    for name, url in urls.items():
        engines = load(profile).databases[name].engines
        if resolve_engine(url, engines).engine not in engines:
            raise NotSupportedError(
                feature=f"--url {name}={url.engine}:…",
                subject=f"a sample of {profile}",
                hint=f"{profile} uses {' or '.join(engines)} for it.",
            )
    for name, database in databases.items():
        if database.url == "required" and (name not in urls or urls[name].is_file):
            raise UsageError(
                detail=f"a sample of {profile} requires an empty database on a server: --url {name}=URL"
            )


def check_variant(profile: str, variant: str) -> None:
    """Refuse a variant that the sample does not support.

    Raises:
        FeatureMissingError, MigrationVariantUnknownError: the sample has no variants, or not this one.
    """
    variants = read_definition(profile).variants
    if variant and variants and variant not in variants:
        raise MigrationVariantUnknownError(app=profile, name=variant, names=", ".join(variants))
    if variant and not variants:
        others = ", ".join(name for name in SAMPLES if read_definition(name).variants)
        raise FeatureMissingError(
            app=f"a sample of {profile}", profile=profile, feature="variants", profiles=others
        )
