"""Finding text in a SQLite file through an index in a file of its own, which is attached for reading only."""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from dbctl import interrupt
from dbctl.engines.base import AnyOf, Condition, Explanation, Order, Where
from dbctl.engines.sidecar import Sidecar, SidecarState
from dbctl.engines.sql import Row, Statement, is_storable
from dbctl.engines.sqlite.connection import SQLiteConnection
from dbctl.engines.sqlite.files import quoted
from dbctl.errors import ChangedWhileReadError, DbctlError, NotSupportedError, SidecarUnsoundError

if TYPE_CHECKING:
    from dbctl.engines.fulltext import IndexFault
    from dbctl.engines.sqlite.sidecar_file import Seen

T = TypeVar("T")

#: How the attached file is called in a statement, and its tables: what it was made of, a row for each row, the texts.
SIDE = "dbctl_sidecar"
MADE, PLACES, TEXTS = (f"{SIDE}.{name}" for name in ("made", "places", "texts"))
#: Changes with what such a file holds, so that one of another dbctl is known.
FORMAT = 1
#: How many rows a new one has to find before it takes its place.
PROVEN = 200
#: Seconds between two times that any disk can tell apart, and between two looks at the clock.
COARSE, RETRY_SECONDS = 2, 0.05
#: An index of three letters each finds nothing shorter.
SHORTEST = 3
#: LIKE refuses patterns of more than 50,000 bytes, of which a letter may take eight.
LONGEST = 5_000
#: What numbers the rows of a table that has no column of that name.
NUMBERS = ("rowid", "_rowid_", "oid")
_FOLDED = {letter: letter + 32 for letter in range(ord("A"), ord("Z") + 1)}
_SHADOWS = frozenset({"texts_config", "texts_data", "texts_idx"})
#: Whether LIKE looks into values that are no text, and folds letters beyond ASCII: both are a matter of how SQLite was built.
_BUILT = "select cast(x'61' as blob) like 'a', 'é' like 'É', lower('É') = 'É'"


class _Doubt(NamedTuple):
    """What asks for faults of one kind: SQL for what names each row that has it."""

    kind: Literal["missing", "stale", "duplicate", "stray"]
    sql: str
    parameters: Mapping[str, object] = {}


class _Beside(NamedTuple):
    """The file that is attached."""

    path: Path
    seen: Seen


class SQLiteSidecars(SQLiteConnection):
    """Capability.SIDECAR, for what opens a file so that it counts only as long as nobody has written it."""

    _unlocked: bool
    _opened_as: tuple[int, ...]
    _beside: _Beside | None = None  #: ends with the connection

    @abstractmethod
    def _open(self, *, unlocked: bool) -> None: ...

    @abstractmethod
    def _quiet(self) -> bool: ...

    # How it stands --------------------------------------------------------------------------------------------

    def sidecar_place(self, folder: Path | None, name: str) -> Path:
        from dbctl.engines.sqlite import sidecar_file as files  # noqa: PLC0415 - only searches want it

        return files.place(self.path, folder, name)

    def sidecar(self, told: Sidecar, places: Sequence[Path]) -> SidecarState:
        states = []
        for place in places:
            state = self._looked_at(told, place)
            if state.state == "fresh":
                return state
            states.append(state)
        return next((one for one in states if one.state != "missing"), states[0])

    def _looked_at(self, told: Sidecar, place: Path) -> SidecarState:
        from dbctl.engines.sqlite import sidecar_file as files  # noqa: PLC0415 - as above

        found = files.seen(place, self.path.stat().st_uid)
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
        schema = json.dumps(self._fetch(_master("main"), {}), default=repr)
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
        return json.dumps([FORMAT, self._shape(told), self._fillings(told)], default=repr)

    # Looking for words -----------------------------------------------------------------------------------------

    def sidecar_finds(self, word: str) -> bool:
        return is_storable(word) and SHORTEST <= len(word) <= LONGEST

    def found(
        self,
        told: Sidecar,
        words: Sequence[str],
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Row]:
        statement = Statement(told.table)
        sql = self._found_sql(statement, told, words, columns, where, order_by, limit, offset)
        rows = self._through(lambda: self._rows(sql, statement.parameters))
        if not all(row[-1] for row in rows):
            raise self._unsound("it tells of rows that do not hold the words")
        return [row[:-1] for row in rows]

    def found_count(self, told: Sidecar, words: Sequence[str], where: Sequence[Where] = ()) -> int:
        statement = Statement(told.table)
        rest = [one for one in where if one not in told.kept]
        source = self._source(told, words, rows=bool(rest))
        sql = f"select count(*) from {source}{self._narrowing(statement, told, words, where)}"  # noqa: S608 - names are checked and quoted
        return int(str(self._through(lambda: self._rows(sql, statement.parameters))[0][0]))

    def explain_found(
        self,
        told: Sidecar,
        words: Sequence[str],
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> Explanation:
        statement = Statement(told.table)
        sql = self._found_sql(statement, told, words, columns, where, order_by, limit, offset)
        try:
            return self._explained(sql, statement.parameters, statement.aliases)
        except DbctlError as error:
            raise self._unsound(str(error)) from error

    def _found_sql(
        self,
        statement: Statement,
        told: Sidecar,
        words: Sequence[str],
        columns: Sequence[str],
        where: Sequence[Where],
        order_by: Sequence[Order],
        limit: int | None,
        offset: int,
    ) -> str:
        names = [self._column(told.table, column, "t0") for column in columns]
        holds = [
            self._test(
                statement, told.table, AnyOf([Condition(c, "contains", word) for c in told.columns]), "t0"
            )
            for word in words
        ]
        names.append(" and ".join(holds) or "1")
        narrowed = self._narrowing(statement, told, words, where)
        if list(dict.fromkeys(order_by)) == list(told.order):
            ordered = ["x.rowid" if words else "p.place"]
        else:
            ordered = self._ordering(statement, told.table, order_by)
        sql = f"select {', '.join(names)} from {self._source(told, words, rows=True)}{narrowed}"  # noqa: S608 - as above
        return f"{sql} order by {', '.join(ordered)}{self._part(statement, limit, offset)}"

    def _source(self, told: Sidecar, words: Sequence[str], *, rows: bool) -> str:
        """Return what follows FROM; joined crosswise, so that the index is asked first and each row it tells is looked up."""
        source = f"{TEXTS} x cross join {PLACES} p on p.place = x.rowid" if words else f"{PLACES} p"
        if rows:
            table, number = self._table(told.table), self._number(told.table)
            source += f" cross join {table} t0 on t0.{number} = p.number"
        return source

    def _narrowing(
        self, statement: Statement, told: Sidecar, words: Sequence[str], where: Sequence[Where]
    ) -> str:
        tests = []
        if words:
            asked = " ".join('"' + word.translate(_FOLDED).replace('"', '""') + '"' for word in words)
            tests.append(f"x.texts match {statement.bind(asked)}")
        for one in where:
            kept = one in told.kept
            tests.append(
                f"p.k{list(told.kept).index(one)} = 1"
                if kept
                else self._test(statement, told.table, one, "t0")
            )
        return f" where {' and '.join(tests)}" if tests else ""

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
        from dbctl.engines.sqlite import sidecar_file as files  # noqa: PLC0415 - as above

        if (
            self._beside is None
            or files.seen(self._beside.path, self.path.stat().st_uid) != self._beside.seen
        ):
            raise self._unsound("it was changed meanwhile")
        return answer

    def _unsound(self, reason: str) -> SidecarUnsoundError:
        path = self._beside.path if self._beside else f"beside {self.path.name}"
        return SidecarUnsoundError(target=self.target, path=path, reason=reason)

    # Making it, and comparing it -------------------------------------------------------------------------------

    def make_sidecar(self, told: Sidecar, place: Path) -> SidecarState:
        from dbctl.engines.sqlite import sidecar_make as files  # noqa: PLC0415 - as above

        self._fetch("select 1", {})
        reason = self._why_none(told) or self._why_moving()
        if reason:
            instead = "Nothing was made. Close the app that writes it, then run this again." * (
                not self._unlocked
            )
            raise NotSupportedError(
                what=f"a search index of {told.table}", by=f"{self.target}: {reason}", instead=instead
            )
        with files.making(place, self.target, timeout=self._timeout) as new:
            files.sealed(new, self.path, self._fill(told, new))
            state = self._looked_at(told, new)
            lacks = state.state == "fresh" and (
                self.found_count(told, ()) != self.count(told.table)
                or self._confirmed([self._lost(told, PROVEN)])
            )
            self._detach()
            if state.state != "fresh" or lacks:
                reason = state.reason or "it does not find every row that it was made of"
                raise SidecarUnsoundError(target=self.target, path=place, reason=reason)
            files.put(new, place)
        return self._looked_at(told, place)

    def _fill(self, told: Sidecar, new: Path) -> int:
        """Fill an empty file; return the second by which it is known as finished, an even one, which every disk keeps."""
        self._wait_for_its_time()
        before, made = self._opened_as, int(datetime.now(UTC).timestamp())
        facts = {
            "definition": self._definition_of(told),
            "made_at": made,
            "sealed": made - made % 2,
            **self._key_of(),
        }
        self._attach(new, "mode=rw")
        try:
            self._current().set_authorizer(None)
            for pragma in ("query_only = 0", f"{SIDE}.journal_mode = off", f"{SIDE}.synchronous = off"):
                self._run(f"pragma {pragma}", {})
            self._run("begin", {})
            for name, sql in self._shape(told).items():
                self._run(sql.replace(f" TABLE {name}", f" TABLE {SIDE}.{name}", 1), {})
            for sql, parameters in self._fillings(told):
                self._run(sql, parameters)
            for what, value in facts.items():
                self._run(f"insert into {MADE} values (:what, :told)", {"what": what, "told": value})  # noqa: S608 - a name of ours
            self._run("commit", {})
        finally:
            self._open(unlocked=self._quiet())
        if self._opened_as != before or not self._unlocked:
            raise ChangedWhileReadError(target=self.target)
        return made - made % 2

    def _wait_for_its_time(self) -> None:
        """Wait until a later change has another time, on a disk that keeps no more than every second one."""
        while self._opened_as[3] % 10**9 == 0 and 0 <= time.time() - self._opened_as[3] // 10**9 <= COARSE:
            interrupt.check()
            time.sleep(RETRY_SECONDS)

    def sidecar_faults(self, told: Sidecar, *, rows: int) -> Sequence[IndexFault]:
        return self._confirmed([*self._doubts(told), self._lost(told, rows)])

    def sidecar_differs(self, told: Sidecar) -> bool:
        import tempfile  # noqa: PLC0415 - as above

        from dbctl import private  # noqa: PLC0415 - as above

        if self._beside is None:
            raise self._unsound("it is not in use")
        place = self._beside.path
        mine = self._through(self._content)
        with private.folder(Path(tempfile.gettempdir()), ".dbctl-search-") as folder:
            again = folder / place.name
            again.touch(mode=0o600)
            self._fill(told, again)
            self._attach(again, "mode=ro&immutable=1")
            theirs = self._content()
            self._detach()
        return mine != theirs or self._looked_at(told, place).state != "fresh"

    def _content(self) -> str:
        """Return a digest of all that the attached file tells."""
        import hashlib  # noqa: PLC0415 - slow to import

        digest = hashlib.sha256()
        for name in (PLACES, f"{SIDE}.texts_data", f"{SIDE}.texts_idx"):
            for row in self._current().execute(f"select * from {name} order by 1, 2"):  # noqa: S608 - a name of ours
                digest.update(repr(row).encode())
        return digest.hexdigest()

    def _confirmed(self, doubts: Sequence[_Doubt]) -> list[IndexFault]:
        from dbctl.engines.fulltext import IndexFault  # noqa: PLC0415 - as above

        found = []
        for doubt in doubts:
            sql = f"select count(*), min(q.i) from ({doubt.sql}) q"  # noqa: S608 - of ours
            ((number, example),) = self._through(partial(self._rows, sql, doubt.parameters))
            if number:
                found.append(IndexFault(kind=doubt.kind, number=int(str(number)), example=str(example)))
        return found

    def _doubts(self, told: Sidecar) -> Iterator[_Doubt]:
        """Yield what asks whether it knows every row, once, in its order, and what it is to know of it."""
        table, number, id_ = self._table(told.table), self._number(told.table), self._name_of_row(told)
        statement = Statement(told.table)
        differ = [
            f"p.k{at} is not (({self._test(statement, told.table, one, 't0')}) is true)"
            for at, one in enumerate(told.kept)
        ]
        unknown = f"t0.{number} not in (select number from {PLACES})"  # noqa: S608 - a name of ours
        yield _Doubt("missing", f"select {id_} as i from {table} t0 where {unknown}")  # noqa: S608 - names are checked and quoted
        there = f"select t0.{number} from {table} t0"  # noqa: S608 - names are checked and quoted
        yield _Doubt("stray", f"select number as i from {PLACES} where number not in ({there})")  # noqa: S608 - as above
        yield _Doubt("duplicate", f"select number as i from {PLACES} group by number having count(*) > 1")  # noqa: S608 - as above
        if differ:
            sql = f"select {id_} as i from {self._both(told)} where {' or '.join(differ)}"  # noqa: S608 - as above
            yield _Doubt("stale", sql, statement.parameters)
        statement = Statement(told.table)
        order = ", ".join([*self._ordering(statement, told.table, told.order), f"t0.{number}"])
        moved = f"select {id_} as i, p.place as a, row_number() over (order by {order}) as b from {self._both(told)}"  # noqa: S608 - as above
        yield _Doubt("stale", f"select i from ({moved}) where a <> b", statement.parameters)  # noqa: S608 - as above

    def _lost(self, told: Sidecar, rows: int) -> _Doubt:
        """Return what asks whether the text of so many rows, evenly chosen, is found."""
        step = max(1, self.count(told.table) // rows)
        asked = []
        for at, text in enumerate(self._texts_of(told)):
            phrase = f"'c{at} : \"' || replace({text}, '\"', '\"\"') || '\" '"
            asked.append(f"case when length({text}) >= {SHORTEST} then {phrase} else '' end")
        held = f"select 1 from {TEXTS} x where x.texts match q.asked and x.rowid = q.place"  # noqa: S608 - as above
        rows_of = f"select {self._name_of_row(told)} as i, p.place, {' || '.join(asked)} as asked from {self._both(told)}"  # noqa: S608 - as above
        sql = f"select i from ({rows_of} where p.place % :step = 0) q where q.asked <> '' and not exists ({held})"  # noqa: S608 - as above
        return _Doubt("stale", sql, {"step": step})

    def _both(self, told: Sidecar) -> str:
        return f"{PLACES} p join {self._table(told.table)} t0 on t0.{self._number(told.table)} = p.number"

    def _name_of_row(self, told: Sidecar) -> str:
        key = self._key(told.table)
        return self._column(told.table, key[0], "t0") if key else f"t0.{self._number(told.table)}"

    def drop_sidecar(self, place: Path) -> None:
        from dbctl.engines.sqlite import sidecar_make as files  # noqa: PLC0415 - as above

        self._detach()
        files.drop(place)


def _master(schema: str) -> str:
    return f"select type, name, coalesce(sql, '') from {schema}.sqlite_master order by type, name"  # noqa: S608 - a name of ours
