"""The file of a search index that stands beside a SQLite file: where it is, and whether it can be trusted."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from zlib import crc32

from dbctl.engines.contract import Sidecar, SidecarState
from dbctl.engines.sql import Statement
from dbctl.engines.sqlite.files import quoted
from dbctl.engines.sqlite.reader import SQLiteReader
from dbctl.errors import DbctlError, SidecarUnsoundError
from dbctl.model import Value

SUFFIX = ".dbctl-search-{name}"
MAGIC, HEADER = b"SQLite format 3\0", 100


class Seen(Value, frozen=True):
    """A file as it was looked at, before it is opened."""

    reason: str  #: why it cannot be trusted; empty: it can
    identity: tuple[int, ...]  #: device, inode, size, time
    bytes: int
    modified_ns: int


def place(database: Path, folder: Path | None, name: str) -> Path:
    """Return where the file of an index of ``database`` is: in ``folder``, None: beside it."""
    suffix = SUFFIX.format(name="".join(one if _is_safe(one) else f"%{ord(one):x}" for one in name))
    if folder is None:
        return database.with_name(database.name + suffix)
    return folder / f"{database.name}-{crc32(os.fsencode(database)):08x}{suffix}"


def _is_safe(letter: str) -> bool:
    """Whether any disk takes a letter of the name of a search in the name of a file."""
    return letter.isascii() and (letter.isalnum() or letter in "_-")


def seen(path: Path, owner: int) -> Seen | None:
    """Look at a file without opening it for SQLite; None: there is none.

    Args:
        path: the file.
        owner: whose the database is; what belongs to anybody but them, root and this user is not trusted.
    """
    try:
        found = path.lstat()
        reason = _distrust(path, found, owner)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Seen(error.strerror or str(error), (), 0, 0)
    identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return Seen(reason, identity, found.st_size, found.st_mtime_ns)


def _distrust(path: Path, found: os.stat_result, owner: int) -> str:
    if not stat.S_ISREG(found.st_mode):
        return "it is a symbolic link" if stat.S_ISLNK(found.st_mode) else "it is no regular file"
    if found.st_uid not in {0, os.geteuid(), owner}:
        return f"it belongs to the user {found.st_uid}, who is neither this one nor the database's"
    if stat.S_IMODE(found.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
        return "others than its owner may write it"
    if found.st_nlink != 1:
        return "it has a second hard link"
    return _damage(path, found.st_size)


def _damage(path: Path, bytes_: int) -> str:
    """Return why the file cannot be one that SQLite closed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        header = file.read(HEADER)
    if len(header) < HEADER or not header.startswith(MAGIC):
        return "it is no SQLite file"
    size = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    if bytes_ != pages * (1 << 16 if size == 1 else size):
        return "it was cut short, or something was written behind its end"
    return ""


T = TypeVar("T")

#: How the attached file is called in a statement, and its tables: what it was made of, a row for each row, the texts.
SIDE = "dbctl_sidecar"
MADE, PLACES, TEXTS = (f"{SIDE}.{name}" for name in ("made", "places", "texts"))
#: Changes with what such a file holds, so that one of another dbctl is known.
FORMAT = 1
#: What numbers the rows of a table that has no column of that name.
NUMBERS = ("rowid", "_rowid_", "oid")
_SHADOWS = frozenset({"texts_config", "texts_data", "texts_idx"})
#: Whether LIKE looks into values that are no text, and folds letters beyond ASCII: both are a matter of how SQLite was built.
_BUILT = "select cast(x'61' as blob) like 'a', 'é' like 'É', lower('É') = 'É'"


class _Beside(Value, frozen=True):
    """The file that is attached."""

    path: Path
    seen: Seen


class SQLiteSidecarStates(SQLiteReader):
    """What finding text through such a file and making one have in common."""

    _beside: _Beside | None = None  #: ends with the connection

    def _open(self, *, unlocked: bool) -> None:
        self._beside = None
        super()._open(unlocked=unlocked)

    # How it stands --------------------------------------------------------------------------------------------

    def sidecar_place(self, folder: Path | None, name: str) -> Path:
        return place(self.path, folder, name)

    def sidecar(self, told: Sidecar, places: Sequence[Path]) -> SidecarState:
        states = []
        for place in places:
            state = self._looked_at(told, place)
            if state.state == "fresh":
                return state
            states.append(state)
        return next((one for one in states if one.state != "missing"), states[0])

    def _looked_at(self, told: Sidecar, place: Path) -> SidecarState:
        found = seen(place, self.path.stat().st_uid)
        self._fetch("select 1", {})  # opens the database anew where it was replaced
        if found is None:
            return SidecarState(path=place, state="missing", reason=self._why_none(told))
        if found.reason:
            return SidecarState(path=place, state="broken", reason=found.reason, bytes=found.bytes)
        if reason := self._why_moving():
            return SidecarState(path=place, state="stale", reason=reason, bytes=found.bytes)
        opened_as = self._opened_as
        try:
            return self._attached(told, place, found)
        except (DbctlError, ValueError, KeyError, TypeError, OverflowError, OSError) as error:
            self._detach()
            if self._opened_as != opened_as:  # opened anew, which attaches nothing
                reason = f"{self.path.name} was changed meanwhile"
                return SidecarState(path=place, state="stale", reason=reason, bytes=found.bytes)
            reason = f"it cannot be read: {error}"
            return SidecarState(path=place, state="broken", reason=reason, bytes=found.bytes)

    def _attached(self, told: Sidecar, place: Path, found: Seen) -> SidecarState:
        """Attach a file, and look whether it is what it should be."""
        self._attach(place, "mode=ro&immutable=1")
        self._beside = _Beside(place, found)

        def state(kind: str, reason: str, made_at: datetime | None = None) -> SidecarState:
            if kind != "fresh":
                self._detach()
            return SidecarState(path=place, state=kind, reason=reason, bytes=found.bytes, made_at=made_at)  # type: ignore[arg-type]

        shape, entries = self._shape(told), self._fetch(_master(SIDE), {})
        tables = {str(name): str(sql) for kind, name, sql in entries if kind == "table"}
        if len(tables) != len(entries) or tables.keys() != shape.keys() | _SHADOWS:
            return state("broken", "it is a SQLite file of another kind")
        facts = {str(what): value for what, value in self._fetch(f"select what, told from {MADE}", {})}  # noqa: S608 - names of ours
        made_at = datetime.fromtimestamp(int(str(facts["made_at"])), UTC)
        if int(str(facts["sealed"])) * 10**9 != found.modified_ns:
            return state("broken", "it was written to after it was made", made_at)
        if facts["definition"] != self._definition_of(told) or any(
            tables[name] != sql for name, sql in shape.items()
        ):
            return state(
                "stale", "it was made by another dbctl, or for a profile that says otherwise", made_at
            )
        now = self._key_of()
        if any(facts[name] != now[name] for name in now):
            return state("stale", f"{self.path.name} was changed since it was made", made_at)
        return state("fresh", "", made_at)

    def _attach(self, place: Path, parameters: str) -> None:
        self._detach()
        self._current().set_authorizer(None)
        try:
            self._run(f"attach :file as {SIDE}", {"file": f"file://{quoted(place)}?{parameters}"})
        finally:
            self._guarded(None)

    def _detach(self) -> None:
        self._beside = None
        self._current().set_authorizer(None)
        try:
            if any(name == SIDE for _, name, _ in self._run("pragma database_list", {})):
                self._run(f"detach {SIDE}", {})
        finally:
            self._guarded(None)

    def _why_moving(self) -> str:
        """Return why the state of the database cannot be told from its file now; empty: it can."""
        return "" if self._unlocked else f"what its app has changed stands beside {self.path.name}, not in it"

    def _why_none(self, told: Sidecar) -> str:
        """Return why there cannot be such a file at all."""
        kind = "select 1 from pragma_table_list where schema = 'main' and type = 'table' and not wr and name = :name"
        if not self._fetch(kind, {"name": told.table}) or not self._number(told.table):
            return f"{told.table} does not number its rows"
        ((_, folds, keeps),) = self._fetch(_BUILT, {})
        return "" if keeps and not folds else "this SQLite folds more letters than those of ASCII"

    def _number(self, table: str) -> str:
        taken = {name.lower() for name in self._checked(table).columns}
        return next((name for name in NUMBERS if name not in taken), "")

    def _key_of(self) -> dict[str, object]:
        """Return what tells that somebody has changed the database, or that it is another one."""
        schema = repr(self._fetch(_master("main"), {}))
        with self.path.open("rb") as file:  # it is read without locks, of which closing it would drop any
            counter = int.from_bytes(file.read(100)[24:28], "big")
        return {
            "size": self._opened_as[2],
            "mtime_ns": self._opened_as[3],
            "counter": counter,
            "schema": schema,
        }

    # How it should be -----------------------------------------------------------------------------------------

    def _shape(self, told: Sidecar) -> dict[str, str]:
        """Return the tables of such a file, each with the statement that SQLite keeps of it."""
        kept = "".join(f", k{at} integer" for at in range(len(told.kept)))
        texts = ", ".join(f"c{at}" for at in range(len(told.columns)))
        how = "content='', columnsize=0, tokenize='trigram case_sensitive 1'"
        return {
            "made": "CREATE TABLE made (what text, told)",
            "places": f"CREATE TABLE places (place integer primary key, number integer not null{kept})",
            "texts": f"CREATE VIRTUAL TABLE texts using fts5({texts}, {how})",
        }

    def _fillings(self, told: Sidecar) -> list[tuple[str, Mapping[str, object]]]:
        """Return the statements that fill them."""
        statement = Statement(told.table)
        table, number = self._table(told.table), self._number(told.table)
        tests = [f"(({self._test(statement, told.table, one, 't0')}) is true)" for one in told.kept]
        names = ", ".join(["number", *(f"k{at}" for at in range(len(tests)))])
        order = ", ".join([*self._ordering(statement, told.table, told.order), f"t0.{number}"])
        rows = f"select {', '.join([f't0.{number}', *tests])} from {table} t0 order by {order}"  # noqa: S608 - names are checked and quoted
        names_of_texts = ", ".join(f"c{at}" for at in range(len(told.columns)))
        values = ", ".join(self._texts_of(told))
        joined = f"{PLACES} p cross join {table} t0 on t0.{number} = p.number"
        texts = f"select p.place, {values} from {joined} order by p.place"  # noqa: S608 - as above
        return [
            (f"insert into {PLACES} ({names}) {rows}", statement.parameters),
            (f"insert into {TEXTS} (rowid, {names_of_texts}) {texts}", {}),
            (f"insert into {TEXTS} (texts) values ('optimize')", {}),  # noqa: S608 - as above
        ]

    def _texts_of(self, told: Sidecar) -> Iterator[str]:
        """Yield SQL for what LIKE sees of each column of ``t0``, in small letters: it stops at a NUL, as an index need not."""
        ((blobs, _, _),) = self._fetch(_BUILT, {})
        by_bytes = self._fetch("pragma encoding", {}) == [("UTF-8",)]  # where letters may be broken
        for column in told.columns:
            name = self._column(told.table, column, "t0")
            text = f"cast({name} as text)"
            if by_bytes:
                raw = f"cast({name if blobs else text} as blob)"
                cut = f"cast(substr({raw}, 1, instr({raw}, x'00') - 1) as text)"
            else:
                cut = f"substr({text}, 1, instr({text}, char(0)) - 1)"
            seen = f"lower(case when instr({text}, char(0)) then {cut} else {text} end)"
            yield seen if blobs else f"case when typeof({name}) <> 'blob' then {seen} end"

    def _definition_of(self, told: Sidecar) -> str:
        return repr([FORMAT, self._shape(told), self._fillings(told)])

    # Reading through it ---------------------------------------------------------------------------------------

    def _through(self, read: Callable[[], T]) -> T:
        """Return what is read through the attached file, if both it and the database are what they were all the while."""

        def steady() -> T:
            if self._beside is None:
                raise self._unsound(f"{self.path.name} was changed meanwhile")
            return read()

        try:
            answer = self._steadily(steady)
        except SidecarUnsoundError:
            raise
        except DbctlError as error:
            raise self._unsound(str(error)) from error

        if self._beside is None or seen(self._beside.path, self.path.stat().st_uid) != self._beside.seen:
            raise self._unsound("it was changed meanwhile")
        return answer

    def _unsound(self, reason: str) -> SidecarUnsoundError:
        path = self._beside.path if self._beside else f"beside {self.path.name}"
        return SidecarUnsoundError(target=self.target, path=path, reason=reason)


def _master(schema: str) -> str:
    return f"select type, name, coalesce(sql, '') from {schema}.sqlite_master order by type, name"  # noqa: S608 - a name of ours
