"""Chance that is the same for the same seed, and rows made a batch at a time."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from random import Random
from typing import TypeVar

T = TypeVar("T")

#: Receives the count of things created since its last call; their sum is the count that was requested.
Progress = Callable[[int], None]

#: Rows made at once: few enough for constant memory, many enough that one statement carries them.
BATCH = 2_000


def dice(seed: int, *key: str | int) -> Random:
    """Return the chance that belongs to one invented thing: it does not depend on what was made before."""
    return Random("/".join(map(str, (seed, *key))))  # noqa: S311 - invented, and meant to be the same again


def uuid4(chance: Random) -> str:
    """Return a UUID of version 4."""
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


def likely(chance: Random, share: float) -> bool:
    """Return whether something happens that happens in this share of cases, from 0 to 1."""
    return chance.random() < share


def ranked(chance: Random, count: int) -> int:
    """Return a rank from 0 to ``count`` - 1, each about as likely as 1 / (rank + 1): a few are met all the time."""
    return min(int((count + 1) ** chance.random()) - 1, count - 1)


def spread(rank: int, count: int) -> int:
    """Return which of ``count`` things holds a rank, so that the first ones made are not the most popular ones."""
    return (rank * 1_000_003 + 17) % count


def batches(things: Iterable[T], progress: Progress | None = None) -> Iterator[list[T]]:
    """Yield the things, ``BATCH`` at a time, and call ``progress`` once a batch has been processed."""
    rest = iter(things)
    while batch := list(islice(rest, BATCH)):
        yield batch
        if progress is not None:
            progress(len(batch))


def hashed(seed: int, password: str, cost: int) -> str:
    """Return a bcrypt hash of ``password`` that is the same for the same seed."""
    import bcrypt

    # A salt of the seed's instead of a random one: the same sample has the same bytes. The last of the 22 characters
    # holds two bits only, and bcrypt refuses others there.
    letters = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    salt = "".join(dice(seed, "salt", password).choices(letters, k=21))
    return bcrypt.hashpw(password.encode(), f"$2b${cost:02d}${salt}O".encode()).decode()
