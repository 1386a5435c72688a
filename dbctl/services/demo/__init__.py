"""Sample deployments to try dbctl on: invented rows that are the same for the same seed and moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType

from dbctl.errors import NotSupportedError, ValueInvalidError
from dbctl.model import Value
from dbctl.services.demo.chance import Progress
from dbctl.url import Url

#: Profiles that have a sample, and the module whose ``build`` makes it.
SAMPLES = {
    "flashpoint-web": "dbctl.services.demo.flashpoint_web",
    "promptvault": "dbctl.services.demo.promptvault",
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
    databases: Mapping[str, Path]  #: those that are files
    urls: Mapping[str, str] = {}  #: those on a server, without a password
    rows: Mapping[str, int]  #: what was made, in the app's own words: games, users, plays…
    bytes: int  #: of all databases together
    seconds: float
    accounts: Sequence[Account]
    password_of_others: str  #: of every user who is no account of these; as public as theirs


def numbers_of(profile: str) -> Mapping[str, int]:
    """Return what a sample is counted in, and how many of each it has unless told otherwise.

    Raises:
        NotSupportedError: the profile has no sample.
    """
    numbers: Mapping[str, int] = _module(profile).NUMBERS
    return numbers


def build(
    directory: Path,
    *,
    profile: str = "flashpoint-web",
    urls: Mapping[str, Url] = {},
    seed: int = 0,
    at: datetime | None = None,
    progress: Progress | None = None,
    **numbers: int,
) -> DemoBuilt:
    """Make the sample deployment of ``profile`` below ``directory``, which is made where it is missing.

    Args:
        directory: where the app would be installed.
        profile: whose sample.
        urls: empty databases on a server that are filled instead of files, by their names in the profile.
        seed: another one gives other rows.
        at: the moment at which the sample is "now"; the present one unless told.
        progress: told of the things that are counted as they are made.
        numbers: how many of each there are to be; the named accounts are made in any case.

    Raises:
        NotSupportedError: the profile has no sample, or it is counted in other things.
        ValueInvalidError: a number is negative.
        FileExistsAlreadyError: a database stands there already; nothing was changed.
        AlreadyExistsError: a database on a server is not empty; nothing was changed.
        FileFailedError: the directory cannot be made or written.
    """
    wanted = dict(numbers_of(profile))
    for what, count in numbers.items():
        if what not in wanted:
            raise NotSupportedError(
                what=f"a number of {what}",
                by=f"the sample of {profile}",
                instead=f"It has: {', '.join(wanted)}.",
            )
        if count < 0:
            raise ValueInvalidError(what=f"the number of {what}", value=count, reason="it is negative")
    built: DemoBuilt = _module(profile).build(
        directory, numbers=wanted | numbers, urls=urls, seed=seed, at=at, progress=progress
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
