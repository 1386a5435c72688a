"""sqlite-utils, whose names other modules import from here: it would also load modules whose import takes longer than its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

from dbctl.startup import DeferredModule

#: Optional modules that it would use, which it does not find.
_HIDDEN = frozenset({"numpy", "pandas"})
#: Modules that only its command line, its conversions of values, its plugins, its savepoints, changes of a table's schema and new event stores
#: use, with the names that it reads on import.
_DEFERRED = {
    "click": ("Group",),
    "dateutil.parser": (),
    "secrets": (),
    "sqlite_utils.create_table_parser": (
        "Check", "ColumnComments", "ParseError", "Unique", "UniqueColumn", "check_references_identifier", "parse_autoincrement",
        "parse_checks", "parse_column_comments", "parse_uniques", "rewrite_check_expression", "sql_ends_in_line_comment",
    ),
    "sqlite_utils.hookspecs": ("hookimpl", "hookspec"),
    "sqlite_utils.migrations": ("Migrations",),
    "sqlite_utils.plugins": ("ensure_plugins_loaded", "pm"),
}  # fmt: skip


class _HiddenModules:
    """Finds none of the hidden modules for the thread that imports sqlite-utils; other threads may need them at the same time."""

    def __init__(self) -> None:
        self._thread = get_ident()

    def find_spec(self, name: str, *_: object) -> None:
        """Refuse one of the modules; the other finders search for all others."""
        if name in _HIDDEN and get_ident() == self._thread:
            raise ModuleNotFoundError(f"{name} is hidden from sqlite-utils", name=name)


class _DeferredPattern:
    """A regular expression that is compiled when it is used."""

    def __init__(self, pattern: str, flags: int) -> None:
        self._arguments = pattern, flags

    def __getattr__(self, name: str) -> object:
        return getattr(re.compile(*self._arguments), name)


def _compile_late(pattern: str, flags: int = 0, *, compile_now: Any = re.compile) -> Any:
    # of a pattern with most letters of Unicode in both cases, this takes as long as all imports of sqlite-utils
    return _DeferredPattern(pattern, flags) if flags & re.IGNORECASE else compile_now(pattern, flags)


@contextmanager
def _import_sparingly() -> Iterator[None]:
    finder = _HiddenModules()
    deferred = {name: DeferredModule(name, names) for name, names in _DEFERRED.items()}

    parser = deferred["sqlite_utils.create_table_parser"]
    # of an `except`, and of an annotation that a `|` follows: they need a class; the error is the base of the original
    vars(parser).update(ParseError=ValueError, ColumnComments=object)
    sys.meta_path.insert(0, finder)
    for name, module in deferred.items():
        sys.modules.setdefault(name, module)
    compile_now, re.compile = re.compile, _compile_late  # type: ignore[assignment] # of both calls of the original
    try:
        yield
    finally:
        re.compile = compile_now
        for name, module in deferred.items():
            if sys.modules.get(name) is module:  # only sqlite-utils imports it late
                del sys.modules[name]
        sys.meta_path.remove(finder)


with _import_sparingly():
    from sqlite_utils import Database, Migrations
    from sqlite_utils.db import SQLITE_MAX_VARS, AlterError, Table, TransformError
    from sqlite_utils.utils import TypeTracker

__all__ = [
    "SQLITE_MAX_VARS",
    "AlterError",
    "Database",
    "Migrations",
    "Table",
    "TransformError",
    "TypeTracker",
]
