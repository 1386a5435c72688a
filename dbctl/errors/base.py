"""The base of every expected failure of dbctl, with the exit statuses and the registry of codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from importlib import import_module
from typing import ClassVar


class Exit(IntEnum):
    """Exit statuses, few and by kind; a script may rely on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    ACTION_NEEDED = 3
    UNSOUND = 4
    NOT_FOUND = 5
    REFUSED = 6
    UNREACHABLE = 10
    BUSY = 11
    PARTIAL = 12
    BROKEN_PIPE = 141


#: The gravest first, where several targets failed.
GRAVITY = (
    Exit.FAILED,
    Exit.UNREACHABLE,
    Exit.BUSY,
    Exit.UNSOUND,
    Exit.REFUSED,
    Exit.NOT_FOUND,
    Exit.USAGE,
    Exit.ACTION_NEEDED,
)


def gravest(statuses: Sequence[Exit]) -> Exit:
    """Return the one that stands for all of several targets."""
    return next((status for status in GRAVITY if status in statuses), Exit.OK)


LONGEST_LIST = 20  #: details of a message; more are counted


class DbctlError(Exception):
    """Base of every expected failure: a raise names facts, the class owns the words.

    Both ``sentence`` and ``remedy`` are format strings over the facts.
    """

    code: ClassVar[str] = "internal"
    exit_status: ClassVar[Exit] = Exit.FAILED
    sentence: ClassVar[str] = "dbctl met a fault of its own: {detail}"
    remedy: ClassVar[str] = "--verbose prints where; please report it."
    #: by code; complete only behind ``load_registry``
    registry: ClassVar[dict[str, type[DbctlError]]] = {}

    def __init__(self, **facts: object) -> None:
        super().__init__(self.sentence.format(**facts))
        self.facts = facts
        self.details: Sequence[
            str
        ] = ()  #: further lines of the message, where there are several things to tell
        self.hint = self.remedy.format(**facts)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.args), *self.details])

    def __init_subclass__(cls) -> None:
        if DbctlError.registry.setdefault(cls.code, cls) is not cls:
            raise TypeError(f"error code {cls.code!r} is declared twice")


def load_registry() -> Mapping[str, type[DbctlError]]:
    """Return every error of dbctl by its code, with all modules of this package imported."""
    from pkgutil import iter_modules

    from dbctl import errors

    for module in iter_modules(errors.__path__):
        import_module(f"{errors.__name__}.{module.name}")
    return DbctlError.registry
