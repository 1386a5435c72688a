"""Contract: where a dump is written to, if that is no file."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from dbctl.files.atomic import HashingCounter


class BlockWriter(Protocol):
    """A destination of blocks; ``NewFile`` is one."""

    @property
    def counter(self) -> HashingCounter:
        """The counter of the written bytes, with their hash."""

    def write(self, block: bytes) -> int:
        """Write the complete block, and return its size."""


class DumpOutput(Protocol):
    """A destination of a dump that is no file."""

    def begin(self) -> AbstractContextManager[BlockWriter]:
        """Begin the dump; the block writes it completely."""

    def discard(self) -> None:
        """Delete the dump, so that another one can begin."""
