"""Sample deployments for trying dbctl; the same seed and time create the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from dbctl.errors.migrations import MigrationVariantUnknownError
from dbctl.errors.usage import FeatureMissingError, NotSupportedError, UsageError, ValueInvalidError
from dbctl.extensions.demo.definition import Account, SampleDefinition, read_definition
from dbctl.model import Struct
from dbctl.url import Url

#: Profiles with a sample: ``data/PROFILE.toml`` defines it, and the module of the same name generates its rows.
SAMPLES = ("chat-lancedb", "flashpoint-web", "promptvault", "waqtor", "yaai")


class DemoBuilt(Struct, frozen=True, kw_only=True):
    """Result of ``demo``."""

    profile: str
    directory: Path
    databases: Mapping[str, Path]
    servers: Mapping[str, str] = {}  #: the addresses of databases on a server, without passwords
    rows: Mapping[str, int]  #: the numbers of created rows: games, users, plays…
    bytes: int  #: of all databases
    seconds: float
    accounts: Sequence[Account]
    password_of_others: str  #: the public password of all other users


#: The maximum number of each kind of row, so that a typing error does not fill the disk.
MAX_ROWS = 10_000_000


def resolve_counts(profile: str, overrides: Mapping[str, int | None]) -> dict[str, int]:
    """Return the numbers of rows of a sample: the defaults with ``overrides``.

    Raises:
        NotSupportedError: the profile has no sample, or the sample has no rows of this kind.
        ValueInvalidError: a number is negative or too large.
    """
    counts = dict(_definition(profile).counts)
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
        NotSupportedError: the profile has no sample, or its sample does not accept an address.
        UsageError: a database must be on a server and has no address.
    """
    databases = {name: database for name, database in _definition(profile).databases.items() if database.url}
    for name in urls:
        if name not in databases:
            accepted = ", ".join(f"--url {name}=URL" for name in databases)
            raise NotSupportedError(
                feature=f"--url {name}=…",
                subject=f"a sample of {profile}",
                hint=f"It accepts {accepted}." if accepted else "It creates its databases in its directory.",
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
    variants = _definition(profile).variants
    if variant and variants and variant not in variants:
        raise MigrationVariantUnknownError(app=profile, name=variant, names=", ".join(variants))
    if variant and not variants:
        others = ", ".join(name for name in SAMPLES if read_definition(name).variants)
        raise FeatureMissingError(
            app=f"a sample of {profile}", profile=profile, feature="variants", profiles=others
        )


def build(
    directory: Path,
    *,
    profile: str = "flashpoint-web",
    counts: Mapping[str, int] = {},
    urls: Mapping[str, Url] = {},
    variant: str = "",
    seed: int = 0,
    at: datetime | None = None,
) -> DemoBuilt:
    """Create the sample deployment of ``profile`` in ``directory``, which is created if it is missing.

    Args:
        directory: where the app would be installed.
        profile: the profile.
        counts: the numbers of rows by kind: ``games``, ``users``, ``messages``…; named accounts are always created.
        urls: databases on servers, which are empty or contain only their migrations.
        variant: the variant of the schema, if the app has several; an existing schema keeps its variant.
        seed: determines the random data.
        at: the current time of the sample; now by default.

    Raises:
        NotSupportedError, UsageError: see ``resolve_counts`` and ``check_urls``.
        FeatureMissingError, MigrationVariantUnknownError: see ``check_variant``.
        MigrationVariantMismatchError: a database already has migrations of another variant.
        ValueInvalidError: a number is negative or too large.
        FileExistsAlreadyError, DatabaseNotEmptyError: a database already exists; nothing was changed.
        FileFailedError: the directory cannot be created or written.
    """
    from dbctl.extensions.demo.builder import Builder
    from dbctl.extensions.demo.sample import Sample
    from dbctl.model import now

    all_counts = resolve_counts(profile, counts)
    check_urls(profile, urls)
    check_variant(profile, variant)
    definition = _definition(profile)
    sample = Sample(
        definition, all_counts, seed=seed, at=at or now(), variant=variant or definition.schema_variant
    )
    return Builder(profile, directory, sample, urls).build()


def _definition(profile: str) -> SampleDefinition:
    if profile not in SAMPLES:
        raise NotSupportedError(
            feature=f"a sample of {profile}",
            subject="dbctl demo",
            hint=f"Profiles with a sample: {', '.join(SAMPLES)}.",
        )
    return read_definition(profile)
