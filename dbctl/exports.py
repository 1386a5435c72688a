"""Imports on first use, so that a command loads only what it needs: public names of packages, and rarely used modules."""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

#: Modules of the standard library that Typer and others import, but that most commands do not use.
_RARELY_USED = ("bz2", "ipaddress", "lzma", "subprocess", "textwrap", "tokenize")

_PATCH = threading.Lock()  # two threads that replace the import function would restore each other's
_REPLACEMENT = threading.Lock()  # only one thread replaces a deferred module


@contextmanager
def lazy_imports(package: str) -> Iterator[None]:
    """Delay the imports of this block until one of the imported names is used.

    The block is in the ``__init__`` of ``package`` and has only statements ``from package.module import name``, which type
    checkers and other tools read as usual. Other threads import without delay.
    """
    namespace, modules = vars(sys.modules[package]), dict[str, str]()

    def record_import(module: str, *args: Any, **options: Any) -> object:
        if not args or args[0] is not namespace:
            return import_now(module, *args, **options)
        _globals, _locals, names, _level = args
        modules.update(dict.fromkeys(names, module))
        return _Placeholder()

    with _PATCH:
        import_now = builtins.__import__
        builtins.__import__ = record_import  # type: ignore[assignment] # the interpreter passes all arguments by position
        try:
            yield
        finally:
            builtins.__import__ = import_now
    for name in modules:
        del namespace[name]

    def load(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = namespace[name] = getattr(import_module(modules[name]), name)
        return value

    namespace["__getattr__"] = load


class _Placeholder:
    """Replaces a module that is not imported yet; it has every name."""

    def __getattr__(self, name: str) -> None:
        """Return nothing; the name is deleted at the end of the block."""


class _DeferredModule(ModuleType):
    """A module that is imported when one of its names is used."""

    def __getattr__(self, name: str) -> object:
        with _REPLACEMENT:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def defer_imports() -> None:
    """Delay the imports of ``_RARELY_USED`` until one of their names is used."""
    for name in _RARELY_USED:
        if name not in sys.modules:
            sys.modules[name] = _DeferredModule(name)
