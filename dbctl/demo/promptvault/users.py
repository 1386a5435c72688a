"""The people of the sample: who they are, what they may do, and which team is theirs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from dbctl.demo import Account
from dbctl.demo.random import dice, likely
from dbctl.demo.words import NAMES, SURNAMES
from dbctl.model import Value

ACCOUNTS = (
    Account(login="admin@promptvault.example", password="sample-admin", role="ADMIN"),  # noqa: S106 - public, guards nothing
    Account(login="demo@promptvault.example", password="sample-user", role="USER"),  # noqa: S106 - of sample data
)
#: All other users have this password, and one hash between them: 500 of their own would take half a minute.
COMMON_PASSWORD = "sample-password"  # noqa: S105 - of sample data
TEAMS = ("Development", "Marketing", "Research", "Support")
#: What some wrote as their team before there were teams.
OWN_WORDS = ("development", "home office", "the night shift")

LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Person(Value, frozen=True, kw_only=True):
    """One invented user."""

    id: str
    email: str
    name: str | None
    team: str | None
    role: str
    created: datetime


def cuid(chance: Random) -> str:
    """Return an id as the app makes them: 25 characters, the first a c."""
    return "c" + "".join(chance.choice(LETTERS) for _ in range(24))


def people(seed: int, at: datetime, number: int, teams: dict[str, str]) -> Iterator[Person]:
    """Yield the users, the named accounts first."""
    for place in range(number):
        chance = dice(seed, "person", place)
        first, last = chance.choice(NAMES), chance.choice(SURNAMES)
        known = ACCOUNTS[place] if place < len(ACCOUNTS) else None
        shown = known.login.partition("@")[0].title() if known else f"{first.title()} {last.title()}"
        team = chance.choice([*teams.values(), *teams.values(), *OWN_WORDS]) if likely(chance, 0.7) else None
        yield Person(
            id=cuid(chance),
            email=known.login if known else f"{first}.{last}{place}@promptvault.example",
            name=shown if known or likely(chance, 0.85) else None,
            team=team,
            role=known.role if known else "ADMIN" if likely(chance, 0.04) else "USER",
            created=at - timedelta(days=200 - 150 * place / max(number, 1), seconds=chance.randrange(80_000)),
        )
