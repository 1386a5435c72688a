"""Sample deployments to try dbctl on: invented rows that are the same for the same seed and moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path

from dbctl.errors import NotSupportedError, ValueInvalidError
from dbctl.model import Value
from dbctl.services.demo.chance import Progress

#: Profiles that have a sample, and the module whose ``build`` makes it.
SAMPLES = {"flashpoint-web": "dbctl.services.demo.flashpoint_web"}


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
    rows: Mapping[str, int]  #: what was made, in the app's own words: games, users, plays…
    bytes: int  #: of all databases together
    seconds: float
    accounts: Sequence[Account]
    password_of_others: str  #: of every user who is no account of these; as public as theirs


def build(
    directory: Path,
    *,
    profile: str = "flashpoint-web",
    games: int = 2_000,
    users: int = 50,
    plays: int = 5_000,
    seed: int = 0,
    at: datetime | None = None,
    progress: Progress | None = None,
) -> DemoBuilt:
    """Make the sample deployment of ``profile`` below ``directory``, which is made where it is missing.

    Args:
        directory: where the app would be installed.
        profile: whose sample.
        games: how many; 200,000 are what a real archive holds.
        users: how many, the named accounts included, which are made in any case.
        plays: how many play sessions.
        seed: another one gives other rows.
        at: the moment at which the sample is "now"; the present one unless told.
        progress: told of games, users and plays as they are made.

    Raises:
        NotSupportedError: the profile has no sample.
        ValueInvalidError: a number is negative.
        FileExistsAlreadyError: a database stands there already; nothing was changed.
        FileFailedError: the directory cannot be made or written.
    """
    if profile not in SAMPLES:
        raise NotSupportedError(
            what=f"a sample of {profile}",
            by="dbctl demo",
            instead=f"It has samples of: {', '.join(SAMPLES)}.",
        )
    for what, count in (("games", games), ("users", users), ("plays", plays)):
        if count < 0:
            raise ValueInvalidError(what=f"the number of {what}", value=count, reason="it is negative")
    module = import_module(SAMPLES[profile])
    built: DemoBuilt = module.build(
        directory, games=games, users=users, plays=plays, seed=seed, at=at, progress=progress
    )
    return built
