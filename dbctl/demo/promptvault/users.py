"""The users of the sample, with their roles and teams."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from dbctl.demo import Account
from dbctl.demo.random import happens, rng_for
from dbctl.demo.words import NAMES, SURNAMES
from dbctl.model import Struct

ACCOUNTS = (
    Account(login="admin@promptvault.example", password="sample-admin", role="ADMIN"),  # noqa: S106 - public, guards nothing
    Account(login="demo@promptvault.example", password="sample-user", role="USER"),  # noqa: S106 - of sample data
)
#: All other users have this password, with the same hash, because 500 separate hashes would take half a minute.
COMMON_PASSWORD = "sample-password"  # noqa: S105 - of sample data
TEAMS = ("Development", "Marketing", "Research", "Support")
#: Free text in the team column, from before the app had teams.
FREE_TEXT_TEAMS = ("development", "home office", "the night shift")

LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


class User(Struct, frozen=True, kw_only=True):
    """One generated user."""

    id: str
    email: str
    name: str | None
    team: str | None
    role: str
    created: datetime


def cuid(rng: Random) -> str:
    """Return an id in the format of the app: ``c`` and 24 other characters."""
    return "c" + "".join(rng.choice(LETTERS) for _ in range(24))


def create_users(seed: int, at: datetime, number: int, teams: dict[str, str]) -> Iterator[User]:
    """Yield the users, the named accounts first."""
    for index in range(number):
        rng = rng_for(seed, "person", index)
        first, last = rng.choice(NAMES), rng.choice(SURNAMES)
        account = ACCOUNTS[index] if index < len(ACCOUNTS) else None
        name = account.login.partition("@")[0].title() if account else f"{first.title()} {last.title()}"
        team = rng.choice([*teams.values(), *teams.values(), *FREE_TEXT_TEAMS]) if happens(rng, 0.7) else None
        yield User(
            id=cuid(rng),
            email=account.login if account else f"{first}.{last}{index}@promptvault.example",
            name=name if account or happens(rng, 0.85) else None,
            team=team,
            role=account.role if account else "ADMIN" if happens(rng, 0.04) else "USER",
            created=at - timedelta(days=200 - 150 * index / max(number, 1), seconds=rng.randrange(80_000)),
        )
