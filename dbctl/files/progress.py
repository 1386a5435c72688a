"""What long work tells of itself to whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

#: Told how much of the whole is done: a share from 0 to 1.
Progress: TypeAlias = Callable[[float], None]


def silent(_share: float) -> None:
    """Tell nobody."""


def at_once() -> None:
    """Let nobody go, where nobody is held up."""
