"""Sample deployments to try dbctl on: invented rows that are the same for the same seed and moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType

from dbctl.demo.random import Progress
from dbctl.errors import (
    AbilityMissingError,
    MigrationShapeUnknownError,
    NotSupportedError,
    UsageError,
    ValueInvalidError,
)
from dbctl.model import Value
from dbctl.url import Url

#: Profiles that have a sample, and the module whose ``build`` makes it; its ``COUNTS`` say how many of what there are
#: unless told otherwise, its ``SERVED`` which databases must be on a server,
#: its ``PLACED`` of which ``--url`` may say where they are, its ``SHAPES`` the shapes that ``--variant`` may name.
SAMPLES = {
    "chat-lancedb": "dbctl.demo.chat_lancedb",
    "flashpoint-web": "dbctl.demo.flashpoint_web",
    "promptvault": "dbctl.demo.promptvault",
    "waqtor": "dbctl.demo.waqtor",
    "yaai": "dbctl.demo.yaai",
}


class Account(Value, frozen=True, kw_only=True):
    """A user of the sample that a person can sign in as. The password is public: it guards nothing."""

    login: str
    password: str
    role: str


class DemoBuilt(Value, frozen=True, kw_only=True):
    """Answer of ``demo``."""

    profile: str
    directory: Path
    databases: Mapping[str, Path]
    servers: Mapping[str, str] = {}  #: those that are no files, where they are; a password is not shown
    rows: Mapping[str, int]  #: what was made, in the app's own words: games, users, plays…
    bytes: int  #: of all databases together
    seconds: float
    accounts: Sequence[Account]
    password_of_others: str  #: of every user who is no account of these; as public as theirs


#: Of each thing: what is more fills a disk by mistake.
MOST = 10_000_000


def counts_of(profile: str, given: Mapping[str, int | None]) -> Mapping[str, int]:
    """Return how many of what a sample has: as ``given``, else as the sample itself says.

    Raises:
        NotSupportedError: the profile has no sample, or its sample nothing that was given.
        ValueInvalidError: a number is negative, or of more than a sample is for.
    """
    counts: dict[str, int] = dict(_module(profile).COUNTS)
    for what, count in given.items():
        if count is None:
            continue
        if what not in counts:
            raise NotSupportedError(
                what=f"--{what}", by=f"a sample of {profile}", instead=f"It has: {', '.join(counts)}."
            )
        if count < 0:
            raise ValueInvalidError(what=f"the number of {what}", value=count, reason="it is negative")
        if count > MOST:
            raise ValueInvalidError(
                what=f"the number of {what}", value=count, reason=f"a sample has at most {MOST:,}"
            )
        counts[what] = count
    return counts


def refuse_misplaced(profile: str, urls: Mapping[str, Url]) -> None:
    """Refuse databases that the sample of ``profile`` would not fill, and one of which nothing says where it is.

    Raises:
        NotSupportedError: the profile has no sample, or its sample itself says where a database is.
        UsageError: a database must be on a server, and nothing says where.
    """
    module = _module(profile)
    for name in urls:
        if name not in module.PLACED:
            placed = ", ".join(f"--url {one}=URL" for one in module.PLACED)
            raise NotSupportedError(
                what=f"--url {name}=…",
                by=f"a sample of {profile}",
                instead=f"It takes {placed}." if placed else "It makes its databases in its directory.",
            )
    for name in module.SERVED:
        if name not in urls or urls[name].is_file:
            raise UsageError(
                detail=f"a sample of {profile} needs an empty database on a server: --url {name}=URL"
            )


def refuse_unshaped(profile: str, shape: str) -> None:
    """Refuse a shape that the app's database cannot be given.

    Raises:
        AbilityMissingError, MigrationShapeUnknownError: see ``migration_shapes.refuse_unknown``.
    """
    own = getattr(_module(profile), "SHAPES", ())
    if shape and own and shape not in own:
        raise MigrationShapeUnknownError(app=profile, name=shape, names=", ".join(own))
    if shape and not own:
        others = ", ".join(name for name in SAMPLES if getattr(_module(name), "SHAPES", ()))
        raise AbilityMissingError(
            app=f"a sample of {profile}", profile=profile, ability="shapes", others=others
        )


def build(
    directory: Path,
    *,
    profile: str = "flashpoint-web",
    counts: Mapping[str, int] = {},
    urls: Mapping[str, Url] = {},
    shape: str = "",
    seed: int = 0,
    at: datetime | None = None,
    progress: Progress | None = None,
) -> DemoBuilt:
    """Make the sample deployment of ``profile`` below ``directory``, which is made where it is missing.

    Args:
        directory: where the app would be installed.
        profile: whose sample.
        counts: how many of what, in the app's own words: ``games``, ``users``, ``messages``…; named accounts are made
            in any case.
        urls: empty databases, of which nothing or their migrations is there.
        shape: the app's shape that they get, where its profile has several; one that their migrations have made stays.
        seed: another one gives other rows.
        at: the moment at which the sample is "now"; the present one unless told.
        progress: told of what is counted as it is made.

    Raises:
        NotSupportedError, UsageError: see ``counts_of`` and ``refuse_misplaced``.
        AbilityMissingError, MigrationShapeUnknownError: see ``refuse_unshaped``.
        MigrationShapeOtherError: a database has migrations of another shape already.
        ValueInvalidError: a number is negative, or of more than a sample is for.
        FileExistsAlreadyError, DatabaseNotEmptyError: a database stands there already; nothing was changed.
        FileFailedError: the directory cannot be made or written.
    """
    wanted = counts_of(profile, counts)
    refuse_misplaced(profile, urls)
    refuse_unshaped(profile, shape)
    shaped = {"shape": shape} if shape else {}  # only a sample of a profile with shapes knows the word
    built: DemoBuilt = _module(profile).build(
        directory, counts=wanted, urls=urls, seed=seed, at=at, progress=progress, **shaped
    )
    return built


def _module(profile: str) -> ModuleType:
    if profile not in SAMPLES:
        raise NotSupportedError(
            what=f"a sample of {profile}",
            by="dbctl demo",
            instead=f"It has samples of: {', '.join(SAMPLES)}.",
        )
    return import_module(SAMPLES[profile])
