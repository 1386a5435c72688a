"""Bytes moved out of a database and into one: what every engine answers that can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from dbctl.model import Value
from dbctl.url import Url

#: Told how much of the whole is done: a share from 0 to 1.
Progress: TypeAlias = Callable[[float], None]
#: ``in place``: one transaction of the database; ``new``: there was none; ``replaced``: there was a file that could not
#: be opened as a database, which made room for the new one; ``swapped``: a new database took its name.
Way: TypeAlias = Literal["in place", "new", "replaced", "swapped"]


def silent(_share: float) -> None:
    """Tell nobody."""


class Proof(Value, frozen=True, kw_only=True):
    """What a dump holds, and what is wrong with it."""

    tables: Mapping[str, int]  #: rows
    schema: (
        str  #: the fingerprint of its schema; empty where only a database that it is loaded into could tell
    )
    problems: Sequence[str]  #: in the engine's words; empty: it can be loaded


class Dumped(Value, frozen=True, kw_only=True):
    """A file that holds one moment of a database, whole, and usable without anything beside it.

    Whoever keeps it makes it durable.
    """

    taken_at: datetime  #: the moment: what was committed before is in it, what came later is not
    facts: Mapping[str, str]  #: what the file alone does not tell of the database: by the engine's own words
    proof: Proof | None = None  #: what was read of it while it was written; None: that is still to be done
    sha256: str = ""  #: of the file, hexadecimal, as it was written; empty: it is still to be read for that


class Dump(Value, frozen=True, kw_only=True):
    """What is brought back."""

    #: ``dump``: a file that ``Dumps.dump`` made; ``kept``: a database that an earlier restore kept on the server.
    form: Literal["dump", "kept"] = "dump"
    facts: Mapping[str, str]  #: ``Dumped.facts``, or what ``Outside.kept`` told
    tables: Mapping[str, int]  #: rows
    schema: str  #: the fingerprint of its schema


class Loaded(Value, frozen=True, kw_only=True):
    """How a dump came into the place of a database."""

    way: Way
    remarks: Sequence[str] = ()  #: what somebody has to look after


class Approach(Value, frozen=True, kw_only=True):
    """How a restore would come into the place of a database."""

    way: Way
    keeps: bool = (
        False  #: whether what it replaces stays where it is under another name; else it is copied first
    )
    steps: Sequence[str] = ()  #: what it does beside exchanging what the database holds; for a plan


class Kept(Value, frozen=True, kw_only=True):
    """A database that is about to stay under another name."""

    facts: Mapping[str, str]  #: what finds it again
    note: str  #: the lines of a script that brings it back without dbctl


@runtime_checkable
class Dumps(Protocol):
    """Capability.DUMP."""

    #: The forms in which it can be dumped, the usual one first, and what their files are called behind the time; an
    #: empty one leaves that to the profile.
    forms: Mapping[str, str]
    parts: bool  #: whether some tables alone can be dumped
    packed: bool  #: whether what it dumps is packed already, in whatever form

    def dump(
        self, destination: Path, *, form: str = "", tables: Sequence[str] = (), progress: Progress = silent
    ) -> Dumped:
        """Copy one moment of the database into the new file ``destination``, mode 0600.

        Nothing is left of it when that fails.

        Args:
            destination: the file.
            form: one of ``forms``; empty means the usual one.
            tables: only these, where ``parts`` says so; none means all.
            progress: told the share that is done.

        Raises:
            DiskFullError, FileFailedError: it cannot be written; nothing of the database was changed.
            ClientMissingError, ClientOldError, ClientFailedError: of the server's own program that makes it.
        """
        ...

    def dump_size(self) -> int:
        """Return how many bytes ``dump`` will write, about."""
        ...


class Outside(Protocol):
    """A database seen from outside: it may be missing, damaged, or held by others."""

    def is_there(self) -> bool:
        """Return whether there is anything that a restore would replace."""
        ...

    def files(self) -> Sequence[Path]:
        """Return the files of this machine that hold it; none where there are none. Nothing is opened."""
        ...

    def lock(self, purpose: str, *, timeout: float) -> AbstractContextManager[None]:
        """Keep every other dbctl from writing it, also where none is or it cannot be opened."""
        ...

    def want_room(self, need: int) -> None:
        """Look whether a change of ``need`` bytes fits, as far as that can be known from here."""
        ...

    def approach(self, dump: Dump) -> Approach:
        """Return how ``load`` would bring a dump in.

        Raises:
            KeptMissingError: it is a database that was kept, and is not there.
            RestoreFailedError, PrivilegeMissingError: it could not.
        """
        ...

    def kept(self, stamp: str) -> Kept:
        """Return how what is there now would be kept by a restore of that time, where ``Approach.keeps`` says so."""
        ...

    def load(
        self, path: Path, dump: Dump, *, timeout: float, keep: Mapping[str, str], progress: Progress
    ) -> Loaded:
        """Bring what is in ``path`` into its place: see ``registry.load``."""
        ...

    def copied(self, path: Path, dump: Dump, *, timeout: float) -> AbstractContextManager[Url]:
        """Give a database that holds what ``path`` does and that nobody else knows; it is gone at the end.

        Raises:
            PrivilegeMissingError: this user may not make databases there.
        """
        ...

    def forget(self, keep: Mapping[str, str]) -> Sequence[str]:
        """Let go what earlier restores kept, but what ``keep`` names; return what somebody has to look after."""
        ...
