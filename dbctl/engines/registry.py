"""Find the engine of an address: the package ``dbctl.engines.NAME`` of a name in ``dbctl.url.ENGINES``."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from dbctl.errors.usage import NotSupportedError
from dbctl.url import ENGINES

if TYPE_CHECKING:
    from dbctl.engines.contract.engine import Engine


def load_engine(name: str) -> Engine:
    """Return the engine with a name.

    Raises:
        NotSupportedError: this version of dbctl has no such engine.
    """
    if name not in ENGINES:
        raise NotSupportedError(
            feature=f"the engine {name}",
            subject="this version of dbctl",
            hint=f"Supported: {', '.join(ENGINES)}.",
        )
    engine: Engine = import_module(f"dbctl.engines.{name}.engine").ENGINE
    return engine


def engine_title(name: str) -> str:
    """Return the name of an engine for messages; the engine may be unknown to this version of dbctl."""
    return load_engine(name).title if name in ENGINES else name


def find_folder_engine(folder: Path) -> Engine | None:
    """Return the engine that stores each table as a folder, if ``folder`` contains its tables; otherwise None."""
    return next((engine for engine in _all_engines() if engine.is_table_folder(folder)), None)


def _all_engines() -> Iterator[Engine]:
    return map(load_engine, ENGINES)
