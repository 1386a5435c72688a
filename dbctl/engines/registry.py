"""Find the engine of an address: those of the core, and those of extensions."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from dbctl.engines.contract.engine import Engine
from dbctl.errors.usage import NotSupportedError
from dbctl.url import ENGINES, find_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbctl.url import EngineEntry


class AbsentEngine(Engine):
    """An engine whose databases have an error each, so that a command can continue with the others."""

    def __init__(self, name: str, hint: str) -> None:
        self.name = self.title = name
        self._hint = hint

    def _refuse(self, *_values: object, **_options: object) -> NoReturn:
        """Refuse what needs a database or a dump.

        Raises:
            NotSupportedError: always.
        """
        raise NotSupportedError(
            feature=f"the engine {self.name}", subject="this installation of dbctl", hint=self._hint
        )

    create_reader = create_writer = _refuse
    list_lock_holders = restore_target = _refuse
    verify_dump = _refuse


def load_engine(name: str) -> Engine:
    """Return the engine with a name; that of an extension that is not installed opens no database.

    Raises:
        NotSupportedError: dbctl has no such engine.
        ExtensionInvalidError: the engine of another distribution cannot be imported.
    """
    engine: Engine
    if entry := ENGINES.get(name):
        module, _, attribute = entry.place.partition(":")
        engine = getattr(import_module(module), attribute)
        return engine
    from dbctl.extensions import registry

    installed = dict(_list_of_extensions())
    if name in installed:
        engine = registry.load(installed[name].place)
        return engine
    hint = f"Supported: {', '.join([*ENGINES, *installed])}."
    if find_engine(name):
        return AbsentEngine(name, f"Its extension is not installed. {hint}")
    raise NotSupportedError(feature=f"the engine {name}", subject="this installation of dbctl", hint=hint)


def engine_title(name: str) -> str:
    """Return the name of an engine for messages; the engine may be unknown to this installation of dbctl."""
    try:
        return load_engine(name).title
    except NotSupportedError:
        return name


def find_folder_engine(folder: Path) -> Engine | None:
    """Return the engine that stores each table as a folder, if ``folder`` contains its tables; otherwise None."""
    engines = (load_engine(name) for name, entry in _list_of_extensions() if entry.kind == "folder")
    return next((engine for engine in engines if engine.is_table_folder(folder)), None)


def _list_of_extensions() -> Iterator[tuple[str, EngineEntry]]:
    """Yield the engines of extensions that are installed, by name."""
    from dbctl.extensions import registry

    for extension in registry.list_extensions():
        yield from extension.engines.items()
