"""The base class of every expected failure, with the exit codes and the registry of codes."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from importlib import import_module
from shlex import quote  # an error can arise where no module can be imported any more
from typing import ClassVar, cast


class Exit(IntEnum):
    """Exit codes, one per kind of result; scripts may rely on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    ACTION_NEEDED = 3
    CHECK_FAILED = 4
    NOT_FOUND = 5
    REFUSED = 6
    UNREACHABLE = 10
    BUSY = 11
    PARTIAL = 12
    BROKEN_PIPE = 141


#: Exit codes from the most to the least severe; it decides which one a command with several targets returns.
SEVERITY_ORDER = (
    Exit.FAILED,
    Exit.UNREACHABLE,
    Exit.BUSY,
    Exit.CHECK_FAILED,
    Exit.REFUSED,
    Exit.NOT_FOUND,
    Exit.USAGE,
    Exit.ACTION_NEEDED,
)


def worst_status(statuses: Sequence[Exit]) -> Exit:
    """Return the most severe of several exit codes; ``OK`` for none."""
    return next((status for status in SEVERITY_ORDER if status in statuses), Exit.OK)


LONGEST_LIST = 20  #: details of a message; further ones are only counted


def shorten_details(details: Sequence[str]) -> list[str]:
    """Return the first details, and the number of the others."""
    omitted = len(details) - LONGEST_LIST
    return [*details[:LONGEST_LIST], *([f"… and {omitted} more"] if omitted > 0 else [])]


class DbctlError(Exception):
    """Base of every expected failure: a raise passes values, the class owns the text.

    ``sentence`` and ``remedy`` are format strings; the keyword arguments fill them and are available as ``context``. ``candidates`` is a
    collection of names, of which the hint suggests those that resemble the misspelled name.
    """

    code: ClassVar[str] = "internal"
    exit_status: ClassVar[Exit] = Exit.FAILED
    sentence: ClassVar[str] = "internal error: {detail}"
    remedy: ClassVar[str] = "Run it again with --verbose, and report the output."
    misspelled: ClassVar[str] = "name"  #: the key of ``context`` with the name that ``candidates`` resemble
    #: by code; complete only after ``load_registry``
    registry: ClassVar[dict[str, type[DbctlError]]] = {}

    def __init__(self, **context: object) -> None:
        candidates = cast("Collection[str]", context.pop("candidates", ()))
        super().__init__(self.sentence.format(**context))
        self.context = context
        self.details: Sequence[str] = ()  #: further lines of the message, one per problem
        self.hint = _write_remedy(self.remedy, context)
        if candidates:
            from dbctl.errors.suggestions import suggest_sentence

            suggestion = suggest_sentence(str(context[self.misspelled]), candidates)
            self.hint = f"{suggestion} {self.hint}".strip()

    def __str__(self) -> str:
        return "\n".join([*map(str, self.args), *self.details])

    def __init_subclass__(cls) -> None:
        if DbctlError.registry.setdefault(cls.code, cls) is not cls:
            raise TypeError(f"error code {cls.code!r} is declared twice")


def load_registry() -> Mapping[str, type[DbctlError]]:
    """Return every error class by its code, after importing all modules of this package."""
    from pkgutil import iter_modules

    from dbctl import errors

    for module in iter_modules(errors.__path__):
        import_module(f"{errors.__name__}.{module.name}")
    return DbctlError.registry


def _write_remedy(remedy: str, context: Mapping[str, object]) -> str:
    """Return a remedy with its facts; in commands, names with spaces are quoted, so that they can be pasted."""
    quoted = {
        name: quote(value) if isinstance(value, str) and name != "command" else value
        for name, value in context.items()
    }
    texts = re.split(r"(dbctl [^.;,]*)", remedy)
    return "".join(text.format(**(quoted if index % 2 else context)) for index, text in enumerate(texts))
