"""Parse a vector from a file: a JSON array, numbers in text, or 32-bit numbers in binary."""

from __future__ import annotations

import re
import sys
from array import array

import msgspec

from dbctl.errors.databases import VectorInvalidError
from dbctl.extensions.semantic.embedders import MAX_DIMENSIONS, find_problem
from dbctl.model import JSON_ERRORS

#: Bytes; the longest vector as text is shorter.
MAX_BYTES = 4 << 20
FORMATS_HINT = "Accepted: a JSON array, one number per line, or 32-bit numbers (little-endian)."
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
_FLOAT_BYTES = 4  #: bytes


def parse_vector(raw: bytes, label: str, *, dimension: int | None) -> list[float]:
    """Return the vector in a file.

    Args:
        raw: content of the file; at most one byte longer than ``MAX_BYTES``.
        label: the file, for messages.
        dimension: length of the stored vectors; if unknown, the file must be text.

    Raises:
        VectorInvalidError: the file contains no valid vector.
    """
    if len(raw) > MAX_BYTES:
        raise VectorInvalidError(place=label, reason="the file is too large", hint=FORMATS_HINT)
    if not raw.strip():
        raise VectorInvalidError(place=label, reason="it is empty", hint=FORMATS_HINT)
    if dimension and len(raw) == dimension * _FLOAT_BYTES and not _is_text(raw):
        numbers = array("f", raw)
        if sys.byteorder == "big":
            numbers.byteswap()
        return validate_vector(list(numbers), label)
    if not _is_text(raw):
        reason = "it is not text"
        if dimension:
            reason += f", and its size is not {dimension * _FLOAT_BYTES} bytes ({dimension} numbers)"
        raise VectorInvalidError(place=label, reason=reason, hint=FORMATS_HINT)
    return validate_vector(_parse_text(raw.removeprefix(b"\xef\xbb\xbf").decode(), label), label)


def validate_vector(value: object, label: str, hint: str = FORMATS_HINT) -> list[float]:
    """Return a value as a vector.

    Raises:
        VectorInvalidError: it is not a list of numbers, or a number is not finite.
    """
    if reason := find_problem(value):
        raise VectorInvalidError(place=label, reason=reason, hint=hint)
    return [float(number) for number in value] if isinstance(value, list) else []


def _is_text(raw: bytes) -> bool:
    try:
        return "\0" not in raw.decode()
    except UnicodeDecodeError:
        return False


def _parse_text(text: str, label: str) -> object:
    if text.lstrip().startswith(("[", "{", '"')):
        try:
            return msgspec.json.decode(text)
        except JSON_ERRORS as error:
            raise VectorInvalidError(place=label, reason="it is not valid JSON", hint=FORMATS_HINT) from error
    words = re.split(r"[\s,;]+", text.strip(" \t\r\n,;"))
    if len(words) > MAX_DIMENSIONS:
        raise VectorInvalidError(
            place=label, reason=f"it has {len(words):,} numbers, more than any model uses", hint=FORMATS_HINT
        )
    for index, word in enumerate(words, 1):
        if not _NUMBER.fullmatch(word):
            excerpt = word if len(word) <= 20 else f"{word[:20]}…"  # noqa: PLR2004 - characters of a message
            raise VectorInvalidError(
                place=label, reason=f"word {index} is not a number: {excerpt!r}", hint=FORMATS_HINT
            )
    return [float(word) for word in words]
