"""Directories that a sample needs, and that do not stay where it could not be made."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def made(wanted: Iterable[Path]) -> Iterator[None]:
    """Make the directories that are missing; what was made is removed again when the work fails."""
    new: list[Path] = []
    try:
        for path in wanted:
            missing = [one for one in [path, *path.parents] if not os.path.lexists(one)]
            path.mkdir(parents=True, exist_ok=True)
            new += reversed(missing)
        yield
    except BaseException:  # also on a signal: nothing is to be left of what was not finished
        for path in reversed(new):
            with suppress(OSError):  # somebody has put something there
                path.rmdir()
        raise
