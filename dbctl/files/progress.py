"""Reports of the progress of long work."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

#: Receives how much of the whole is done: a share from 0 to 1.
Progress: TypeAlias = Callable[[float], None]


def silent(_share: float) -> None:
    """Report nothing."""


def at_once() -> None:
    """Release nothing, where no other process waits."""
