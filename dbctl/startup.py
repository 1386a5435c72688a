"""Imports on first use of rarely used modules, so that a command loads only what it needs."""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock  # noqa: PLC2701 - threading takes longer to import than this module
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

#: Modules that Typer, msgspec, psycopg and others import, but that most commands do not use, with the names that they import from them.
_RARELY_USED: dict[str, tuple[str, ...]] = {
    "ast": (),
    "bz2": (),
    "difflib": ("get_close_matches",),
    "dis": (),
    "gettext": ("gettext",),
    "importlib.metadata": ("version",),
    "ipaddress": (),
    "linecache": (),
    "lzma": (),
    "msgspec._json_schema": ("schema", "schema_components"),
    "msgspec.inspect": (),
    "msgspec.msgpack": (),
    "msgspec.yaml": (),
    "ntpath": (),
    "platform": (),
    "shutil": ("get_terminal_size",),
    "subprocess": (),
    "textwrap": (),
    "tokenize": (),
    "traceback": ("FrameSummary", "StackSummary"),
    "typer.completion": ("get_completion_inspect_parameters",),
    "urllib.parse": ("quote_from_bytes",),
}

#: What ``inspect`` reads from ``dis`` on import: the names of the flags of code objects, which become its constants.
_FLAGS = {
    1: "OPTIMIZED", 2: "NEWLOCALS", 4: "VARARGS", 8: "VARKEYWORDS", 16: "NESTED", 32: "GENERATOR", 64: "NOFREE", 128: "COROUTINE",
    256: "ITERABLE_COROUTINE", 512: "ASYNC_GENERATOR",
}  # fmt: skip

_REPLACEMENT = allocate_lock()  # only one thread replaces a deferred module


class _DeferredName:
    """A name of a deferred module, which is imported when it is called or has to have an attribute."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load

    def __call__(self, *args: Any, **options: Any) -> object:
        return self._load()(*args, **options)

    def __getattr__(self, name: str) -> object:
        return getattr(self._load(), name)


class DeferredModule(ModuleType):
    """A module that is imported when one of its names is used; ``names`` are those that others import from it."""

    def __init__(self, name: str, names: tuple[str, ...]) -> None:
        super().__init__(name)
        self._names = names

    def __getattr__(self, name: str) -> object:
        if name == "__path__":  # every import of a name looks it up
            raise AttributeError(name)
        return _DeferredName(partial(self._load, name)) if name in self._names else self._load(name)

    def _load(self, name: str) -> Any:
        with _REPLACEMENT:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


class _NodeVisitor:
    """What ``inspect`` inherits from ``ast`` on import, with the methods of the original."""

    def __getattr__(self, name: str) -> object:
        return partial(getattr(import_module("ast").NodeVisitor, name), self)


def defer_imports(*, of_typer: bool = True) -> None:
    """Delay the imports of ``_RARELY_USED`` until one of their names is used; ``of_typer`` imports Typer without them."""
    names = [name for name in _RARELY_USED if of_typer or not name.startswith("typer.")]
    for name in names:
        sys.modules.setdefault(name, DeferredModule(name, _RARELY_USED[name]))
    vars(sys.modules["platform"]).setdefault("system", lambda: os.uname().sysname)  # uuid calls it on import
    vars(sys.modules["ast"]).setdefault("NodeVisitor", _NodeVisitor)
    vars(sys.modules["dis"]).setdefault("COMPILER_FLAG_NAMES", _FLAGS)
    metadata = sys.modules["importlib.metadata"]
    if isinstance(metadata, DeferredModule):
        vars(metadata)["version"] = partial(_read_version, metadata)  # psycopg calls it on import
    if "typing_extensions" not in sys.modules:
        sys.modules["typing_extensions"] = None  # type: ignore[assignment] # msgspec uses typing instead, which is loaded
        import_module("msgspec")
        del sys.modules["typing_extensions"]
    for name in names:
        package, _, module = name.rpartition(".")
        if package:
            vars(import_module(package)).setdefault(module, sys.modules[name])


def _read_version(metadata: DeferredModule, distribution: str) -> str:
    """Return the version in the name of the folder that the installer created; without one, call ``importlib.metadata``."""
    prefix, suffix = f"{distribution.replace('-', '_')}-", ".dist-info"
    for folder in sys.path:
        with suppress(OSError):
            for name in os.listdir(folder or "."):  # noqa: PTH208 - pathlib is slow to import
                version = name.removeprefix(prefix).removesuffix(suffix)
                if name == f"{prefix}{version}{suffix}" and "-" not in version:
                    return version
    result: str = metadata._load("version")(distribution)  # noqa: SLF001 - of this module
    return result
