"""Progress callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

#: Receives the completed share, from 0 to 1.
Progress: TypeAlias = Callable[[float], None]


def no_progress(_share: float) -> None:
    """Report nothing."""


def release_nothing() -> None:
    """Do nothing: no other process is blocked."""
