"""What a command declares about itself; the decorator of its function holds it, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args

from msgspec import field

from dbctl.model import DryRunResult, Struct

F = TypeVar("F", bound=Callable[..., Any])

#: ``input``: rows from a user, a file or a backup; each is checked by the rules of the app (``RowRules``).
#: ``generated``: rows from dbctl itself, or from constants of the profile. ``schema``: no rows of the app, only its schema,
#: indexes or migration ledger.
Source = Literal["input", "generated", "schema"]

#: Facts of a profile by which commands write, and which the stored data can contradict:
#: ``user-key``, ``role-key``: the codec of new keys; ``user-created``, ``user-updated``, ``role-created``, ``role-updated``,
#: ``setting-times``, ``sign-out``: the format of the times that a command writes; ``active``: the codec of this field;
#: ``active-known``: whether its values show who is active; ``permission-link``, ``audit``: the columns of new rows, and the
#: time of the record; ``ledger``: what distinguishes migrations.
Fact = Literal[
    "user-key", "user-created", "user-updated", "active", "active-known", "sign-out", "role-key", "role-created", "role-updated",
    "permission-link", "setting-times", "audit", "ledger",
]  # fmt: skip
FACTS: Sequence[Fact] = get_args(Fact)


class Write(Struct, frozen=True, kw_only=True):
    """How a command, or a part of one that differs from it, writes databases of an app."""

    source: Source
    #: those by which it writes; a contradiction of another one does not refuse the command
    facts: Sequence[Fact] = ()
    undo: bool = False  #: whether the audit log contains the rows before and after; otherwise it counts them
    audited: bool = True  #: False: a check, or a part of an operation that the audit log already contains
    #: whether its plan may require a confirmation, in any app; otherwise it is drafted once, under the lock
    may_destroy: bool = True
    #: what it needs of the machine on which it was started, besides the database and standard input: dbctl of another machine lacks it
    needs: str = ""
    #: False: it writes the database that an option names, and only reads that of the selected app
    is_selected: bool = True


class Fleet(Struct, frozen=True, kw_only=True):
    """How a command runs on the instances of a fleet."""

    resumes: bool = False  #: whether an unfinished run can be continued with ``--resume``
    may_destroy: bool = False  #: whether its plan may require a confirmation
    canaries: int = 0  #: instances that run before all others
    max_failures: int = 0  #: failed instances after which no other starts; 0: no limit
    max_logins: int = 1  #: words that name users
    replaces: Mapping[str, object] = {}  #: parameters that have another value on each instance


#: Apps of the tests: a sample of Flashpoint Web, an app with a profile of its own, and each sample, in one scenario.
APPS = ("flashpoint-web", "custom", "samples")
EVERYWHERE = " ".join(APPS)
#: What the help shows for the placeholders of examples; tests replace them with values of the app.
SHOWN_VALUES = {
    "app": "blog", "backup": "20260105_030000", "change": "email=alice@example.org", "db": "main", "log": "events",
    "login": "alice", "migration": "004", "new": "alice", "operation": "812", "report": "most-played",
    "role": "editor", "row": "7", "run": "812", "search": "games", "setting": "app.site_name",
    "table": "users", "value": "Arcade",
}  # fmt: skip


class Example(Struct, frozen=True):
    """A command line that shows how a command is used, that tests run, or both."""

    line: str  #: ``users set-role {login} {role}``, for a shell, without ``dbctl``
    #: names of ``APPS``, separated by blanks, on which tests run it, without ``-o`` and redirections
    on: str = ""
    status: int = 0  #: the exit code, if no app lacks the feature
    needs: tuple[str, ...] = ()  #: lines of examples that must run before it, on apps on which they run
    shown: bool = True  #: whether the help of the command and the man page print it
    meaning: str = ""  #: with it, the help of dbctl prints the example, too

    @property
    def text(self) -> str:
        """The line as the help prints it."""
        return f"dbctl {self.line.format_map(SHOWN_VALUES)}"

    def __call__(self, function: F) -> F:
        """Add the example to a command; examples are decorators above the declaration of the command."""
        # the decorators of a function are applied from the last to the first
        function.spec.examples.insert(0, self)  # type: ignore[attr-defined]
        return function


#: Seconds to wait for a lock or a server, without ``--timeout``.
DEFAULT_TIMEOUT = 5.0


class CommandSpec(Struct, frozen=True, kw_only=True):
    """The declaration of one command."""

    name: str  #: ``users set-role``
    #: returns the types of its results, without that of ``--dry-run``; called by the generator of the JSON Schemas alone
    answers: Callable[[], tuple[Any, ...]]
    has_plan: bool = False  #: whether it answers ``--dry-run`` with its plan
    writes: Write | None = None  #: None: it opens no database of an app for writing
    action: str = ""  #: the ``ActionName`` whose hooks it runs; empty: none
    #: whether it reads the audit log of the selected app, which is where its changes run
    reads_log: bool = False
    recorded: bool = False  #: whether the journal records its runs, unless they are dry runs
    #: whether, without writing a database, it does nothing but answer: it changes no file, sends nothing, and asks for nothing
    only_answers: bool = True
    findings: bool = False  #: whether its result is, or contains, findings
    #: tests run them, and the help and the man page print those that are shown
    examples: list[Example] = field(default_factory=list)
    #: None: it works on one instance only, because its arguments are ids of rows, or files
    fleet: Fleet | None = None
    all_apps: bool = False  #: whether it concerns all apps if none is selected
    timeout: float = DEFAULT_TIMEOUT  #: of ``--timeout``
    checks_profile: bool = True  #: False: a mistake in the users or the settings of a profile must not prevent a backup or a restore

    def list_answers(self) -> tuple[Any, ...]:
        return (*self.answers(), DryRunResult) if self.has_plan else self.answers()


#: For services that no command uses: the strictest declaration.
LIBRARY = CommandSpec(name="library", answers=tuple, writes=Write(source="input", facts=FACTS, undo=True))
