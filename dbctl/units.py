"""Durations and sizes, as users and configurations write them."""

from __future__ import annotations

import re
from datetime import timedelta

#: Seconds of each unit of a duration.
DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}


def parse_duration(text: str) -> timedelta:
    """Parse a duration: ``90s``, ``36h``, ``2w``.

    Raises:
        ValueError: it is not a duration, or longer than 1000 years.
    """
    digits, unit = text[:-1], text[-1:]
    if not (digits.isascii() and digits.isdigit() and unit in DURATION_UNITS):
        raise ValueError(text)
    seconds = int(digits) * DURATION_UNITS[unit] if len(digits) <= 9 else None  # noqa: PLR2004 - more digits exceed the limit with any unit
    if seconds is None or seconds > 1000 * DURATION_UNITS["y"]:
        raise ValueError(text)
    return timedelta(seconds=seconds)


def is_duration(text: str, *, may_be_zero: bool = True) -> bool:
    """Whether ``parse_duration`` accepts the text."""
    try:
        return bool(parse_duration(text)) or may_be_zero
    except ValueError:
        return False


#: Powers of 1,024.
SIZE_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def parse_size(text: str) -> int:
    """Parse a number of bytes: ``500k``, ``20M``, ``1G``; units are powers of 1,024.

    Raises:
        ValueError: it is not a size.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,11})([kKMGT]?)", text)
    if match is None:
        raise ValueError(text)
    return int(match[1]) << SIZE_UNITS[match[2].upper()]


def format_size(count: float) -> str:
    """Return bytes as ``812 B`` or ``1.2 MiB``."""
    if abs(count) < 1024:  # noqa: PLR2004 - 1024.0 is shown in the next unit
        return f"{count} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if abs(count) < 1023.95:  # noqa: PLR2004 - 1024.0 is shown in the next unit
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} PiB"
