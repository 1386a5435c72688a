"""sqlite-utils, whose names other modules import from here: it would also load numpy and pandas, whose import takes longer than its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from threading import get_ident


class _HiddenModules(MetaPathFinder):
    """Finds no optional module for the thread that imports sqlite-utils; other threads may need them at the same time."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names, self._thread = names, get_ident()

    def find_spec(self, name: str, *_: object) -> None:
        """Refuse one of the modules; the other finders search for all others."""
        if name in self._names and get_ident() == self._thread:
            raise ModuleNotFoundError(f"{name} is hidden from sqlite-utils", name=name)


@contextmanager
def _hide(*names: str) -> Iterator[None]:
    finder = _HiddenModules(frozenset(names))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


with _hide("numpy", "pandas"):
    from sqlite_utils import Database, Migrations
    from sqlite_utils.db import SQLITE_MAX_VARS, AlterError, Table, TransformError

__all__ = ["SQLITE_MAX_VARS", "AlterError", "Database", "Migrations", "Table", "TransformError"]
