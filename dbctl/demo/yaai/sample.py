"""What was asked for of the sample, and what its databases have in common: chats and sessions that others name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from dbctl.demo.random import dice, uuid4
from dbctl.demo.words import ADJECTIVES, NOUNS
from dbctl.model import Value
from dbctl.profiles import TIMES

MODELS = ("sonnet-4", "haiku-4", "gpt-5", "gemini-3")
TASKS = ("Plan", "Explain", "Mend", "Compare", "Draft", "Translate", "Review", "Outline", "Name", "Shorten")
#: How many days the sample reaches back.
DAYS = 180


class Sample(Value, frozen=True, kw_only=True):
    """What was asked for."""

    chats: int
    messages: int
    seed: int
    at: datetime

    @property
    def sessions(self) -> int:
        """How many sessions of work on code there are."""
        return 1 + self.chats // 5

    @property
    def jobs(self) -> int:
        """How many jobs of drawing there are."""
        return 2 + self.chats // 2


class Thing(Value, frozen=True, kw_only=True):
    """A chat or a session: what others name it by, and when it went on."""

    id: str
    title: str
    began: datetime
    ended: datetime


def chats(sample: Sample) -> Iterator[Thing]:
    """Yield the chats, the first ones the oldest."""
    for number in range(sample.chats):
        yield _thing(sample, "chat", number, sample.chats)


def sessions(sample: Sample) -> Iterator[Thing]:
    """Yield the sessions, the first ones the oldest."""
    for number in range(sample.sessions):
        yield _thing(sample, "session", number, sample.sessions)


def about(chance: Random) -> str:
    """Return what something is about."""
    return f"the {chance.choice(ADJECTIVES).lower()} {chance.choice(NOUNS).lower()}"


def written(time: datetime) -> object:
    """Return a time as the app writes it."""
    return TIMES["iso-ms"](time)


def _thing(sample: Sample, kind: str, number: int, of: int) -> Thing:
    chance = dice(sample.seed, kind, number)
    began = sample.at - timedelta(days=DAYS * (1 - number / of) + 1, seconds=chance.randrange(40_000))
    return Thing(
        id=uuid4(chance),
        title=f"{chance.choice(TASKS)} {about(chance)}",
        began=began,
        ended=began + timedelta(minutes=chance.randrange(5, 300)),
    )
