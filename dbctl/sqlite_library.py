"""sqlite-utils, whose names other modules import from here: it would also load modules whose import takes longer than its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident

from dbctl.startup import DeferredModule

#: Optional modules that it would use, which it does not find.
_HIDDEN = frozenset({"numpy", "pandas"})
#: Modules that only its command line and its conversions of values use, with the names that it reads on import.
_DEFERRED = {"click": ("Group",), "dateutil.parser": ()}


class _HiddenModules:
    """Finds none of the hidden modules for the thread that imports sqlite-utils; other threads may need them at the same time."""

    def __init__(self) -> None:
        self._thread = get_ident()

    def find_spec(self, name: str, *_: object) -> None:
        """Refuse one of the modules; the other finders search for all others."""
        if name in _HIDDEN and get_ident() == self._thread:
            raise ModuleNotFoundError(f"{name} is hidden from sqlite-utils", name=name)


@contextmanager
def _import_sparingly() -> Iterator[None]:
    finder = _HiddenModules()
    deferred = {name: DeferredModule(name, names) for name, names in _DEFERRED.items()}

    sys.meta_path.insert(0, finder)
    for name, module in deferred.items():
        sys.modules.setdefault(name, module)
    try:
        yield
    finally:
        for name, module in deferred.items():
            if sys.modules.get(name) is module:  # only sqlite-utils imports it late
                del sys.modules[name]
        sys.meta_path.remove(finder)


with _import_sparingly():
    from sqlite_utils import Database, Migrations
    from sqlite_utils.db import SQLITE_MAX_VARS, AlterError, Table, TransformError

__all__ = ["SQLITE_MAX_VARS", "AlterError", "Database", "Migrations", "Table", "TransformError"]
