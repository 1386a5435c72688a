"""Reproducible random values and words."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from random import Random
from typing import TypeVar

from dbctl.extensions.demo.definition import read_data

T = TypeVar("T")

#: Words for generated names and titles.
WORDS: Mapping[str, Sequence[str]] = read_data("words")


def rng_for(seed: int, *key: str | int) -> Random:
    """Return the random generator of one object, independent of all others."""
    return Random("/".join(map(str, (seed, *key))))  # noqa: S311 - reproducible sample data


def uuid4(rng: Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def happens(rng: Random, share: float) -> bool:
    """Return True with this probability, from 0 to 1."""
    return rng.random() < share


def choose_weighted(rng: Random, weights: Mapping[T, float]) -> T:
    """Return one of the keys, with a probability proportional to its value."""
    return rng.choices(tuple(weights), tuple(weights.values()))[0]


def zipf_rank(rng: Random, count: int) -> int:
    """Return a rank from 0 to ``count`` - 1, with a probability proportional to 1 / (rank + 1)."""
    return min(int((count + 1) ** rng.random()) - 1, count - 1)


def zipf_index(rng: Random, count: int) -> int:
    """Return an index like ``zipf_rank``, but the first objects are not the most frequent ones."""
    return (zipf_rank(rng, count) * 1_000_003 + 17) % count


def choose_name(rng: Random) -> tuple[str, str]:
    """Return a first name and a surname, in lower case."""
    return rng.choice(WORDS["names"]), rng.choice(WORDS["surnames"])


def choose_subject(rng: Random) -> str:
    """Return an adjective and a noun."""
    return f"{rng.choice(WORDS['adjectives'])} {rng.choice(WORDS['nouns'])}"


@cache
def hash_password(seed: int, password: str, cost: int) -> str:
    """Return a reproducible bcrypt hash of ``password``; it takes most of the time of a small sample."""
    import bcrypt

    # The salt depends on the seed, so that the sample is reproducible. The last of the 22 characters has only two
    # significant bits.
    letters = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    salt = "".join(rng_for(seed, "salt", password).choices(letters, k=21))
    return bcrypt.hashpw(password.encode(), f"$2b${cost:02d}${salt}O".encode()).decode()
