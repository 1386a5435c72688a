"""Open a SQLite file for reading, with its external index and with pages in the order of an index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from dbctl.engines.sqlite.external_index.order import IndexOrderBuilder
from dbctl.engines.sqlite.reader import SQLiteReader


class SQLiteExternalReader(SQLiteReader):
    """A SQLite file that dbctl must not write, opened for reading."""

    PARTS: ClassVar[Mapping[str, str]] = {
        **SQLiteReader.PARTS,
        "ExternalIndexes": "dbctl.engines.sqlite.external_index.build:SQLiteExternalIndexes",
    }

    def __init__(self, path: Path, target: str, *, timeout: float = 5.0, traceless: bool = False) -> None:
        """Open ``path``; the arguments are those of ``ReadConnection``."""
        super().__init__(path, target, timeout=timeout, traceless=traceless)
        self.builder = IndexOrderBuilder(self.connection, self.catalog, self.dialect)
