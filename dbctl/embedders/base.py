"""The contract between services and embedders, and what counts as a vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from dbctl.errors import EmbedderFailedError

#: Numbers of the longest vector that any model makes, and the largest that 32 bits hold.
LONGEST = 65_536
LARGEST = 3.4028234663852886e38


class Embedder(Protocol):
    """Makes vectors of words, each time anew."""

    place: str  #: for messages: what makes them, without a key

    def embed(self, text: str) -> Sequence[float]:
        """Return the vector of a text, all of its numbers finite.

        Raises:
            EmbedderUnreachableError: it cannot be asked, or did not answer in time.
            EmbedderBusyError: it takes no more questions for now.
            EmbedderRefusedError: it does not take the key.
            EmbedderFailedError: it gave no vector.
            EmbedderPackageMissingError: it is not installed.
            EmbedderKeyMissingError: its key is not where the configuration says.
        """
        ...


def problem(told: object) -> str:
    """Return what keeps a value of JSON from being a vector, in words that repeat little of it; empty: nothing."""
    if not isinstance(told, list):
        return f"it is no list of numbers but {_kind(told)}"
    if not told:
        return "it is empty"
    if len(told) > LONGEST:
        return f"it has {len(told):,} numbers, more than any model makes"
    for number, one in enumerate(told, 1):
        if isinstance(one, bool) or not isinstance(one, (int, float)):
            return f"its number {number} is {_kind(one)}"
        if not (-LARGEST <= one <= LARGEST):  # also what is no number
            return f"its number {number} is {'not a number' if one != one else 'infinite, or too large'}"  # noqa: PLR0124 - only NaN differs from itself
    return ""


def _kind(told: object) -> str:
    kinds = {type(None): "null", bool: "true or false", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(told), "a number")


def vector(told: object, place: str, instead: str) -> list[float]:
    """Return what an embedder gave as a vector.

    Raises:
        EmbedderFailedError: it is none.
    """
    if reason := problem(told):
        raise EmbedderFailedError(
            place=place, reason=f"what it answers is no vector: {reason}", instead=instead
        )
    return [float(one) for one in told] if isinstance(told, list) else []


def length(numbers: Sequence[float]) -> float:
    """Return the length of a vector; 0 for one that points nowhere."""
    return math.sqrt(math.fsum(one * one for one in numbers))
