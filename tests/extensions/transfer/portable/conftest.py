"""Databases of two engines, and schemas derived from one for the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from dbctl.engines import registry
from dbctl.engines.contract.database import Readable
from dbctl.extensions.transfer.portable.contract import DerivedSchema, PortableSchema, PortableSchemas
from dbctl.url import parse_url
from tests.databases import ComparedDatabase, empty_database

ENGINES = ["sqlite", "postgresql", "mysql"]
#: Every source and destination of different engines.
DIRECTIONS = [(source, destination) for source in ENGINES for destination in ENGINES if source != destination]


@contextmanager
def open_reader(database: ComparedDatabase) -> Iterator[Readable]:
    """Provide an open database."""
    url = parse_url(database.url)
    with closing(registry.load_engine(url.engine).open_for_reading(url, "app/main", timeout=5)) as reader:
        yield reader


def read_portable(database: ComparedDatabase) -> PortableSchema:
    """Return the live schema of a database."""
    with open_reader(database) as reader:
        return reader.extension_part(PortableSchemas).read_portable()


def derive(schema: PortableSchema, database: ComparedDatabase) -> DerivedSchema:
    """Return the statements that create a schema in a database."""
    if database.engine == "sqlite":
        database.run("select 1")  # creates the file
    with open_reader(database) as reader:
        return reader.extension_part(PortableSchemas).derive(schema)


@pytest.fixture
def create_database(tmp_path: Path) -> Iterator[Callable[..., ComparedDatabase]]:
    """Return a function that creates a database of an engine with some statements."""
    with ExitStack() as stack:

        def create(engine: str, *statements: str) -> ComparedDatabase:
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
            database = stack.enter_context(empty_database(engine, path))
            database.run("select 1", *statements)
            return database

        yield create
