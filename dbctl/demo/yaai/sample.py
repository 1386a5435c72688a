"""The options of the sample, and the chats and sessions to which several databases refer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from dbctl.demo.random import rng_for, uuid4
from dbctl.demo.words import ADJECTIVES, NOUNS
from dbctl.model import Struct
from dbctl.profiles import TIMES

MODELS = ("sonnet-4", "haiku-4", "gpt-5", "gemini-3")
TASKS = ("Plan", "Explain", "Mend", "Compare", "Draft", "Translate", "Review", "Outline", "Name", "Shorten")
#: Days of history.
DAYS = 180


class Sample(Struct, frozen=True, kw_only=True):
    """The options of the sample."""

    chats: int
    messages: int
    seed: int
    at: datetime

    @property
    def sessions(self) -> int:
        """The number of code sessions."""
        return 1 + self.chats // 5

    @property
    def jobs(self) -> int:
        """The number of image jobs."""
        return 2 + self.chats // 2


class Work(Struct, frozen=True, kw_only=True):
    """A chat or a session: its id, title, start and end."""

    id: str
    title: str
    started_at: datetime
    ended_at: datetime


def create_chats(sample: Sample) -> Iterator[Work]:
    """Yield the chats, oldest first."""
    for number in range(sample.chats):
        yield _create_work(sample, "chat", number, sample.chats)


def create_sessions(sample: Sample) -> Iterator[Work]:
    """Yield the sessions, oldest first."""
    for number in range(sample.sessions):
        yield _create_work(sample, "session", number, sample.sessions)


def create_title(rng: Random) -> str:
    """Return a generated subject."""
    return f"the {rng.choice(ADJECTIVES).lower()} {rng.choice(NOUNS).lower()}"


def format_time(time: datetime) -> object:
    """Return a time in the format of the app."""
    return TIMES["iso-ms"](time)


def _create_work(sample: Sample, kind: str, number: int, count: int) -> Work:
    rng = rng_for(sample.seed, kind, number)
    started_at = sample.at - timedelta(days=DAYS * (1 - number / count) + 1, seconds=rng.randrange(40_000))
    return Work(
        id=uuid4(rng),
        title=f"{rng.choice(TASKS)} {create_title(rng)}",
        started_at=started_at,
        ended_at=started_at + timedelta(minutes=rng.randrange(5, 300)),
    )
