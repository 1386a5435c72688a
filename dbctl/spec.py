"""What a command declares about itself; the decorator of its function holds it, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dbctl.model import Struct


class Fleet(Struct, frozen=True, kw_only=True):
    """How a command runs on the instances of a fleet."""

    resumes: bool = False  #: whether an unfinished run can be continued with ``--resume``
    may_destroy: bool = False  #: whether its plan may require a confirmation
    canaries: int = 0  #: instances that run before all others
    max_failures: int = 0  #: failed instances after which no other starts; 0: no limit
    max_logins: int = 1  #: words that name users
    replaces: Mapping[str, object] = {}  #: parameters that have another value on each instance


class Example(NamedTuple):
    """A command line that shows how a command is used."""

    line: str  #: ``users set-role alice editor``, for a shell, without ``dbctl``


class CommandSpec(Struct, frozen=True, kw_only=True):
    """The declaration of one command."""

    name: str  #: ``users set-role``
    answers: Callable[
        [], tuple[Any, ...]
    ]  #: returns the types of its results; called by the generator of the JSON Schemas alone
    recorded: bool = False  #: whether the journal records its runs, unless they are dry runs
    findings: bool = False  #: whether its result is, or contains, findings
    examples: tuple[Example, ...] = ()  #: the help and the man page print them
    fleet: Fleet | None = (
        None  #: None: it works on one instance only, because its arguments are ids of rows, or files
    )
    all_apps: bool = False  #: whether it concerns all apps if none is selected
    checks_profile: bool = True  #: False: a mistake in the users or the settings of a profile must not prevent a backup or a restore
