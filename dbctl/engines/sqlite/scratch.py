"""A SQLite database in memory: nobody else sees it, and it is gone with its connection."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dbctl.engines.sqlite.writer import SQLiteWriter


class SQLiteScratch(SQLiteWriter):
    """An empty database to try something in. Being killed leaves nothing behind, and no disk can be full."""

    def __init__(self, target: str) -> None:
        super().__init__(Path("/scratch"), target)  # never a file: the name is what SQLite wants

    def _open(self, create: Mapping[str, str] | None, pragmas: Mapping[str, str]) -> None:
        del create, pragmas  # there is no file that they could be of
        self._connect("mode=memory")
        self._pragma("foreign_keys", "1")
