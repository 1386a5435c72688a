"""A vector that a person hands over: a JSON array, numbers in text, or the bytes of 32-bit numbers."""

from __future__ import annotations

import math
import re
import sys
from array import array
from collections.abc import Sequence

import msgspec

from dbctl.embedders import LONGEST, problem
from dbctl.errors import VectorInvalidError

#: Bytes; the longest vector takes less, with every digit written out.
LARGEST = 4 << 20
FORMS = "Hand over a JSON array, a number a line, or 32-bit numbers (little-endian)."
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
_FLOAT = 4  #: bytes


def read(raw: bytes, place: str, *, dimension: int | None) -> list[float]:
    """Return the vector in a file.

    Args:
        raw: what the file holds; at most one byte more than ``LARGEST``.
        place: the file, for messages.
        dimension: how many numbers those have that it is compared with; without it, bytes are not told from text.

    Raises:
        VectorInvalidError: it is none.
    """
    if len(raw) > LARGEST:
        raise VectorInvalidError(place=place, reason="it is larger than any vector", instead=FORMS)
    if not raw.strip():
        raise VectorInvalidError(place=place, reason="it is empty", instead=FORMS)
    if dimension and len(raw) == dimension * _FLOAT and not _is_text(raw):
        numbers = array("f", raw)
        if sys.byteorder == "big":
            numbers.byteswap()
        return sound(list(numbers), place)
    if not _is_text(raw):
        reason = "it is no text"
        if dimension:
            reason += f", and not of {dimension * _FLOAT} bytes, as {dimension} numbers would be"
        raise VectorInvalidError(place=place, reason=reason, instead=FORMS)
    return sound(_of_text(raw.removeprefix(b"\xef\xbb\xbf").decode(), place), place)


def sound(told: object, place: str, instead: str = FORMS) -> list[float]:
    """Return what was told as a vector.

    Raises:
        VectorInvalidError: it is none, or a number of it is not finite.
    """
    if reason := problem(told):
        raise VectorInvalidError(place=place, reason=reason, instead=instead)
    return [float(one) for one in told] if isinstance(told, list) else []


def comparable(
    vector: Sequence[float], place: str, *, dimension: int | None, column: str, model: str
) -> None:
    """Look whether a vector can be compared with those of a column.

    Raises:
        VectorInvalidError: it is of another length, or points nowhere.
    """
    if dimension and len(vector) != dimension:
        made = f" (made by {model})" if model else ""
        raise VectorInvalidError(
            place=place,
            reason=f"it has {len(vector):,} numbers, those of {column}{made} have {dimension:,}",
            instead="Only vectors that the same model made can be compared.",
        )
    if not any(math.isfinite(one) and one for one in vector):
        raise VectorInvalidError(
            place=place,
            reason="all of its numbers are 0, so it points nowhere",
            instead="Nothing is near it.",
        )


def _is_text(raw: bytes) -> bool:
    try:
        return "\0" not in raw.decode()
    except UnicodeDecodeError:
        return False


def _of_text(text: str, place: str) -> object:
    if text.lstrip().startswith(("[", "{", '"')):
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise VectorInvalidError(place=place, reason="it is no JSON", instead=FORMS) from error
    words = re.split(r"[\s,;]+", text.strip(" \t\r\n,;"))
    if len(words) > LONGEST:
        raise VectorInvalidError(
            place=place, reason=f"it has {len(words):,} numbers, more than any model makes", instead=FORMS
        )
    for number, word in enumerate(words, 1):
        if not _NUMBER.fullmatch(word):
            shown = word if len(word) <= 20 else f"{word[:20]}…"  # noqa: PLR2004 - characters of a message
            raise VectorInvalidError(
                place=place, reason=f"its word {number} is no number: {shown!r}", instead=FORMS
            )
    return [float(word) for word in words]
