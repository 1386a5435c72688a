"""The base class of every expected failure, with the exit codes, the registry of codes, hints that name commands, and suggestions for misspelled names."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import IntEnum
from functools import cached_property, partial
from importlib import import_module
from itertools import cycle, dropwhile
from shlex import quote  # an error can arise where no module can be imported any more
from typing import ClassVar, NamedTuple, cast


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


#: Commands of no configured app; of the options that select one, they get the configuration alone.
WITHOUT_APP = (
    "apps list",
    "config",
    "demo",
    "help",
    "init",
    "profiles draft",
    "profiles list",
    "profiles update",
)


class Invocation(NamedTuple):
    """How the user runs dbctl, which command lines in hints repeat."""

    program: str = "dbctl"  #: quoted
    config: str = ""  #: quoted options
    app: str = ""  #: the name of the selected app; empty: none
    selects_app: bool = True  #: False: other options describe the only app
    others: str = ""  #: further quoted options that select the app
    database: str = ""  #: the quoted option that selects its database
    #: by the first word of commands, their quoted option that the user passed: of a repository, a folder, or an owner of settings
    options: Mapping[str, str] = {}
    absent: Sequence[str] = ()  #: groups and commands that this installation lacks

    def complete(self, command: str, operands: str = "", *, app: str = "") -> str:
        """Return the command line of ``command`` for ``app``; default: the selected one. ``operands`` are its end."""
        words = [self.program, command, self.config]
        if not f"{command} ".startswith(tuple(f"{name} " for name in WITHOUT_APP)):
            # addresses and databases of the selected app mean nothing for another one
            is_other = self.selects_app and _get_app(app or self.app) != _get_app(self.app or app)
            # of one database, the command would omit what refers to others
            database = "" if command.startswith("integrity cross-check") else self.database
            words += [self.others, database] if "--db " not in command and not is_other else []
            option = self.options.get(command.partition(" ")[0], "")
            is_set = f"{option.partition(' ')[0]} " in command
            words += [] if is_other or is_set or "restore recover" in command else [option]
            app = (app or self.app) if self.selects_app and "--app " not in command else ""
            words += [f"--app {quote(app)}"] if app else []
        return " ".join(filter(None, [*words, operands]))


def _get_app(name: str) -> str:
    """Return the app of an instance, ``APP/INSTANCE``, or the name itself."""
    return name.partition("/")[0]


#: the functions that describe what the command lines of hints repeat, in all threads; the last one applies
invocations: list[Callable[[], Invocation]] = [Invocation]

#: The remedy for a file of the app that this user may not write.
RUN_AS_OWNER = "Run dbctl as the owner of the app's files."


class Remedy:
    """A text that names command lines of dbctl, each between backticks and without ``dbctl``; a format string.

    ``Remedy("Nothing was changed. Show the user with: `users show {login}`; or list users with: `users list`")``
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        """Return the texts and the commands with their placeholders."""
        return self.describe()

    def describe(self, absent: Sequence[str] = ()) -> str:
        """Return the texts and the commands, except those that the installation lacks, with their placeholders."""
        return self._join(str, Invocation().complete, absent)

    def write(self, app: str = "", facts: Mapping[str, object] = {}) -> str:
        """Return the hint for the present invocation; its commands have ``app``, by default the selected one.

        ``facts`` are the values of the placeholders; in commands they are quoted, and a list becomes several words.
        """
        return self.fill(invocations[-1](), app, facts)

    def fill(self, invocation: Invocation, app: str, facts: Mapping[str, object]) -> str:
        """Return the hint for an invocation; commands that the installation lacks are omitted."""
        words = {name: _quote(value) for name, value in facts.items()} if "`" in self._text else {}
        # not those of lists, which may contain options
        names = [name for name, fact in facts.items() if isinstance(fact, str) and fact[:1] == "-"]
        split = partial(_split, names) if names else lambda line: (line, "")
        return self._join(
            lambda text: text.format(**facts),
            lambda line: invocation.complete(*(part.format(**words) for part in split(line)), app=app),
            invocation.absent,
        )

    def _join(
        self, write_text: Callable[[str], str], write_command: Callable[[str], str], absent: Sequence[str]
    ) -> str:
        writers = cycle([write_text, write_command])
        parts = _omit_commands(self._text, absent).split("`")  # texts and commands in turn
        return "".join(write(part) for write, part in zip(writers, parts, strict=False))


def _omit_commands(text: str, commands: Sequence[str]) -> str:
    """Return the text of a remedy without some commands, and without the words that introduce each."""
    if not commands:
        return text
    names = "|".join(commands)
    text = re.sub(rf"(^|; |(?<=\.) )((?!\. )[^;`])*`({names})( [^`]*)?`", "", text)
    return re.sub(r"^; (or )?(.)", lambda start: start[2].upper(), text)


def _split(names: Sequence[str], line: str) -> tuple[str, str]:
    """Return a command, and its operands behind ``--`` from the first of ``names``, whose values look like options; empty: there is none."""
    parts = line.split(" ")
    for first, part in enumerate(parts):
        if part[:1] == "{" and part[1:].partition("}")[0] in names and not parts[first - 1].startswith("--"):
            further = [*dropwhile(lambda part: not part.startswith("--"), parts[first:])]
            operands = parts[first : len(parts) - len(further)]
            return " ".join([*parts[:first], *further]), " ".join(["--", *operands])
    return line, ""


def _quote(value: object) -> str:
    return " ".join(quote(str(item)) for item in (value if isinstance(value, (list, tuple)) else [value]))


class DbctlError(Exception):
    """Base of every expected failure: a raise passes values, the class owns the text.

    ``sentence`` and ``remedy`` are format strings, ``remedy`` that of a ``Remedy``; the keyword arguments fill them and are available as
    ``context``. An argument that names commands is a ``Remedy``. ``candidates`` is a collection of names, of which the hint suggests those
    that resemble the misspelled name.
    """

    code: ClassVar[str] = "internal"
    exit_status: ClassVar[Exit] = Exit.FAILED
    sentence: ClassVar[str] = "internal error: {detail}"
    remedy: ClassVar[str] = "Run it again with --verbose, and report the output."
    default_hint: ClassVar[str] = ""  #: the fact ``hint`` of the remedy, unless the raise passes one
    misspelled: ClassVar[str] = "name"  #: the key of ``context`` with the name that ``candidates`` resemble
    #: by code; complete only after ``load_registry``
    registry: ClassVar[dict[str, type[DbctlError]]] = {}

    def __init__(self, **context: object) -> None:
        candidates = cast("Collection[str]", context.pop("candidates", ()))
        super().__init__(self.sentence.format(**context))
        self.context = context
        self.details: Sequence[str] = ()  #: further lines of the message, one per problem
        self._candidates, self._describe = candidates, invocations[-1]

    def __str__(self) -> str:
        return "\n".join([*map(str, self.args), *self.details])

    @cached_property
    def hint(self) -> str:
        """What the user can do, with the commands for the app that was open when the error arose; it can be replaced."""
        invocation, app = self._describe(), str(self.context.get("app") or "")
        facts = {"hint": Remedy(self.default_hint), **self.context}
        remedies = {name: fact for name, fact in facts.items() if isinstance(fact, Remedy)}
        facts |= {name: remedy.fill(invocation, app, facts) for name, remedy in remedies.items()}
        hint = Remedy(self.remedy).fill(invocation, app, facts)
        if self._candidates:
            hint = f"{suggest_sentence(str(self.context[self.misspelled]), self._candidates)} {hint}"
        return hint.strip()

    def __init_subclass__(cls, status: Exit | None = None, code: str = "") -> None:
        """Register the class; its code is ``code`` or its name: that of ``RunNotFoundError`` is ``run-not-found``."""
        words = "".join(f"-{sign}" if sign.isupper() else sign for sign in cls.__name__.removesuffix("Error"))
        cls.code = code or words.lower().removeprefix("-")
        cls.exit_status = cls.exit_status if status is None else status
        if DbctlError.registry.setdefault(cls.code, cls) is not cls:
            raise TypeError(f"error code {cls.code!r} is declared twice")


def load_registry() -> Mapping[str, type[DbctlError]]:
    """Return every error class by its code, after importing all modules of this package, and those of extensions."""
    from pkgutil import iter_modules

    from dbctl import errors
    from dbctl.extensions import registry

    for module in iter_modules(errors.__path__):
        import_module(f"{errors.__name__}.{module.name}")
    registry.load_errors()
    return DbctlError.registry


#: Names that are compared; of more, only those that begin or end as the misspelled one.
MAX_COMPARED = 2000


def find_similar(name: str, known: Collection[str]) -> list[str]:
    """Return up to three names in ``known`` that are almost ``name``, without regard to case; otherwise the most similar name."""
    from difflib import get_close_matches

    prefix = "--" if name.startswith("--") else ""  # it would make all options similar
    folded = name.casefold().removeprefix(prefix)
    names_by_folded = {other.casefold().removeprefix(prefix): other for other in known if other != name}
    if len(names_by_folded) > MAX_COMPARED:
        ends = folded[:2], folded[-2:]
        alike = [other for other in names_by_folded if other.startswith(ends[0]) or other.endswith(ends[1])]
        names_by_folded = {other: names_by_folded[other] for other in alike[:MAX_COMPARED]}
    similar = get_close_matches(folded, names_by_folded, cutoff=0.75) or get_close_matches(
        folded, names_by_folded, n=1
    )
    return [names_by_folded[other] for other in similar]


def suggest_sentence(name: str, known: Collection[str]) -> str:
    """Return a question with similar names as a sentence; empty if there are none."""
    similar = " or ".join(map(repr, find_similar(name, known)))
    return f"Did you mean {similar}?" if similar else ""


def suggest_question(name: str, known: Collection[str]) -> str:
    """Return a question with similar names, to append to a word; empty if there are none."""
    similar = " or ".join(map(repr, find_similar(name, known)))
    return f" (did you mean {similar}?)" if similar else ""
