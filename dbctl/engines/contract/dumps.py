"""Bytes moved out of a database and into one: what every engine answers that can."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from msgspec import field

from dbctl.engines.contract.reader import Readable
from dbctl.files import Progress, silent
from dbctl.model import Value
from dbctl.url import Url

#: ``in place``: one transaction of the database; ``new``: there was none; ``replaced``: there was a file that could not
#: be opened as a database, which made room for the new one; ``swapped``: a new database took its name.
Way: TypeAlias = Literal["in place", "new", "replaced", "swapped"]


class Proof(Value, frozen=True, kw_only=True):
    """What a dump holds, and what is wrong with it."""

    tables: Mapping[str, int]  #: rows
    schema: (
        str  #: the fingerprint of its schema; empty where only a database that it is loaded into could tell
    )
    problems: Sequence[str]  #: in the engine's words; empty: it can be loaded
    digests: Mapping[
        str, str
    ] = {}  #: ``contents.digests``; empty where only a database it is loaded into could tell


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
    part: bool = False  #: whether it holds some tables alone, without what they need of others
    digests: Mapping[str, str] = {}  #: of the content of its small tables: ``contents.digests``
    foreign: bool = False  #: whether dbctl did not make it here, so that a scratch role has to load it


class Loaded(Value, frozen=True, kw_only=True):
    """How a dump came into the place of a database."""

    way: Way
    remarks: Sequence[str] = ()  #: what somebody has to look after


class Tried(Value, frozen=True, kw_only=True):
    """A database of nobody's that a dump was loaded into."""

    url: Url
    proof: Proof  #: what it holds
    remarks: list[str] = field(
        default_factory=list
    )  #: what could not be removed; complete once the database is gone


class Approach(Value, frozen=True, kw_only=True):
    """How a restore would come into the place of a database."""

    way: Way
    keeps: bool = (
        False  #: whether what it replaces stays where it is under another name; else it is copied first
    )
    steps: Sequence[str] = ()  #: what it does beside exchanging what the database holds; for a plan
    where: str = "on its server"  #: where what ``keeps`` tells of stays


class Kept(Value, frozen=True, kw_only=True):
    """A database that is about to stay under another name."""

    facts: Mapping[str, str]  #: what finds it again
    note: str  #: the lines of a script that brings it back without dbctl
    ending: str = ".kept.sql"  #: of that script's name


class Ready(Protocol):
    """What a dump brings, made and proven where nobody looks, so that it only has to take its place."""

    def arm(self, keep: Mapping[str, str]) -> None:
        """Leave a trace on the disk that it is about to; called before the first database of an app is replaced.

        Whoever finds it after a crash knows that this one was not replaced, and that others may have been.
        """
        ...

    def disarm(self) -> None:
        """Take the trace away: it will not."""
        ...

    def exchange(self, keep: Mapping[str, str]) -> Loaded:
        """Let it take its place; ``keep`` is what ``arm`` was told."""
        ...


@runtime_checkable
class Dumps(Protocol):
    """Capability.DUMP."""

    #: The forms in which it can be dumped, the usual one first, and what their files are called behind the time; an
    #: empty one leaves that to the profile.
    forms: Mapping[str, str]
    parts: bool  #: whether some tables alone can be dumped
    packed: bool  #: whether what it dumps is packed already, in whatever form

    def holds_up(self) -> bool:
        """Whether those who write wait as long as it is copied."""
        ...

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


@runtime_checkable
class CountsDumped(Protocol):
    """A database of which a dump counts rows in its own way: by partition, and without those of child tables."""

    def list_dumped(self) -> Collection[str]:
        """Return the tables whose rows a dump would hold, by the names that its proof uses."""
        ...

    def count_dumped(self, extra: Collection[str] = ()) -> Mapping[str, int]:
        """Return the rows of each table as the proof of a dump would count them now.

        ``extra``: tables of extensions that count, too, since a dump was found to hold them.
        """
        ...


def list_dumped(db: Readable) -> Collection[str]:
    """Return the tables of an open database whose rows a dump would hold, by the names that its proof uses."""
    if isinstance(db, CountsDumped):
        return db.list_dumped()
    return [name for name, table in db.tables().items() if not table.view]


def count_dumped(db: Readable, extra: Collection[str] = ()) -> Mapping[str, int]:
    """Return the rows of each table of an open database as the proof of a dump would count them now."""
    if isinstance(db, CountsDumped):
        return db.count_dumped(extra)
    return {name: db.count(name) for name, table in db.tables().items() if not table.view}


@runtime_checkable
class Pins(Protocol):
    """A database that can hold one moment without holding anybody up."""

    def pin(self) -> None:
        """Let the next ``dump`` hold what there is now; it costs next to nothing, and ends with the dump or ``close``."""
        ...


class Outside(Protocol):
    """A database seen from outside: it may be missing, damaged, or held by others."""

    loads: bool  #: whether a dump has to be loaded somewhere before its rows can be read

    def is_there(self) -> bool:
        """Return whether there is anything that a restore would replace."""
        ...

    def identity(self) -> str:
        """Return what it has in common with no other database of its engine, by whatever address it is known."""
        ...

    def address(self, dump: Dump) -> str:
        """Return by which address the tables of a dump are found once it was loaded here; without its password."""
        ...

    def holds(self) -> bool:
        """Return whether anything at all is kept in it, be it another app's.

        Raises:
            NotADatabaseError, CorruptError, UnreachableError: nobody can tell.
        """
        ...

    def files(self) -> Sequence[Path]:
        """Return the files of this machine that hold it; none where there are none. Nothing is opened."""
        ...

    def lock(self, purpose: str, *, timeout: float) -> AbstractContextManager[None]:
        """Keep every other dbctl from writing it, also where none is or it cannot be opened."""
        ...

    def still(self, dump: Dump, *, timeout: float) -> AbstractContextManager[Callable[[], None]]:
        """Keep everybody from changing it until what is given is called, where what it holds is copied before ``dump`` comes.

        Raises:
            BusyError: somebody else was writing for all of ``timeout`` seconds.
        """
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

    def ready(self, path: Path, dump: Dump, *, timeout: float) -> AbstractContextManager[Ready | None]:
        """Do all that can be done before anything is replaced, where that makes ``load`` one quick step; None elsewhere.

        Raises:
            RestoreFailedError: it cannot be loaded; nothing was changed.
            DiskFullError, FileFailedError: there is no room for it.
        """
        ...

    def find_missing(self, kept: Sequence[Dump]) -> Sequence[str]:
        """Return the names (``facts["kept"]``) of those databases that restores retained and that do not exist any more.

        Raises:
            UnreachableError: the server does not answer.
        """
        ...

    def standing(self) -> Mapping[str, str]:
        """Return facts of what is there that no longer hold once ``load`` has replaced it in place; none where none tells."""
        ...

    def load(
        self,
        path: Path,
        dump: Dump,
        *,
        timeout: float,
        keep: Mapping[str, str],
        progress: Progress,
        let_go: Callable[[], None],
        spare: bool = False,
    ) -> Loaded:
        """Bring what is in ``path`` into its place: see ``registry.load``."""
        ...

    def copied(self, path: Path, dump: Dump, *, timeout: float) -> AbstractContextManager[Url]:
        """Give a database that holds what ``path`` does and that nobody else knows; it is gone at the end.

        Raises:
            PrivilegeMissingError: this user may not make databases there.
        """
        ...

    def tried(self, path: Path, dump: Dump, *, timeout: float) -> AbstractContextManager[Tried]:
        """Load a dump as ``load`` does, but where nothing is and nobody looks; nothing of it is left at the end.

        A file is made where this one would be: whoever calls names one in a folder of its own.

        Raises:
            PrivilegeMissingError: this user may not make databases there.
            RestoreFailedError, CorruptError: it cannot be loaded.
        """
        ...

    def forget(self, keep: Mapping[str, str]) -> Sequence[str]:
        """Let go what earlier restores kept, but what ``keep`` names; return what somebody has to look after."""
        ...
