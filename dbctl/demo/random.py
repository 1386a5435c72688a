"""Reproducible random numbers, and batches of rows."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from random import Random
from typing import TypeVar

T = TypeVar("T")

#: Receives the number of rows created since its last call; the sum of all calls is the requested number.
Progress = Callable[[int], None]

#: Rows per batch and statement, for constant memory.
BATCH = 2_000


def rng_for(seed: int, *key: str | int) -> Random:
    """Return the random generator of one object, independent of all others."""
    return Random("/".join(map(str, (seed, *key))))  # noqa: S311 - reproducible sample data


def uuid4(rng: Random) -> str:
    """Return a UUID of version 4."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def happens(rng: Random, share: float) -> bool:
    """Return True with this probability, from 0 to 1."""
    return rng.random() < share


def zipf_rank(rng: Random, count: int) -> int:
    """Return a rank from 0 to ``count`` - 1, with a probability proportional to 1 / (rank + 1)."""
    return min(int((count + 1) ** rng.random()) - 1, count - 1)


def shuffle_rank(rank: int, count: int) -> int:
    """Map a rank to one of ``count`` indexes, so that the first objects are not the most frequent ones."""
    return (rank * 1_000_003 + 17) % count


def batches(items: Iterable[T], progress: Progress | None = None) -> Iterator[list[T]]:
    """Yield batches of ``BATCH`` objects, and call ``progress`` after each."""
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch
        if progress is not None:
            progress(len(batch))


def hash_password(seed: int, password: str, cost: int) -> str:
    """Return a reproducible bcrypt hash of ``password``."""
    import bcrypt

    # The salt depends on the seed, so that the sample is reproducible. The last of the 22 characters has only two
    # significant bits.
    letters = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    salt = "".join(rng_for(seed, "salt", password).choices(letters, k=21))
    return bcrypt.hashpw(password.encode(), f"$2b${cost:02d}${salt}O".encode()).decode()
