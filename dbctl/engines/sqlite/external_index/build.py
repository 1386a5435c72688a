"""A reader of a SQLite file that finds text through an index in a file of its own, makes it, and compares it with the database."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dbctl import signals
from dbctl.engines.contract import Capability, Sidecar, SidecarState
from dbctl.engines.sql import Statement
from dbctl.engines.sqlite.external_index.search import SHORTEST, SQLiteSidecarSearch
from dbctl.engines.sqlite.external_index.state import MADE, PLACES, SIDE, TEXTS
from dbctl.engines.sqlite.index_order import SQLiteIndexOrder
from dbctl.engines.sqlite.reader import SQLiteReader
from dbctl.errors import ChangedWhileReadError, NotSupportedError, SidecarUnsoundError
from dbctl.model import Value

if TYPE_CHECKING:
    from dbctl.engines.contract import IndexFault

#: How many rows a new one has to find before it takes its place.
PROVEN = 200
#: Seconds between two times that any disk can tell apart, and between two looks at the clock.
COARSE, RETRY_SECONDS = 2, 0.05


class _Doubt(Value, frozen=True):
    """What asks for faults of one kind: SQL for what names each row that has it."""

    kind: Literal["missing", "stale", "duplicate", "stray"]
    sql: str
    parameters: Mapping[str, object] = {}


class SQLiteSidecars(SQLiteIndexOrder, SQLiteSidecarSearch):
    """Capability.SIDECAR, for a file that nobody but its owner writes."""

    capabilities = SQLiteReader.capabilities | {Capability.SIDECAR}

    # Making it ------------------------------------------------------------------------------------------------

    def make_sidecar(self, told: Sidecar, place: Path) -> SidecarState:
        from dbctl.engines.sqlite.external_index import create

        self._fetch("select 1", {})
        reason = self._why_none(told) or self._why_moving()
        if reason:
            instead = "Nothing was made. Close the app that writes it, then run this again." * (
                not self._unlocked
            )
            raise NotSupportedError(
                what=f"a search index of {told.table}", by=f"{self.target}: {reason}", instead=instead
            )
        with create.making(place, self.target, timeout=self._timeout) as new:
            create.sealed(new, self.path, self._fill(told, new))
            state = self._looked_at(told, new)
            lacks = state.state == "fresh" and (
                self.found_count(told, ()) != self.count(told.table)
                or self._confirmed([self._lost(told, PROVEN)])
            )
            self._detach()
            if state.state != "fresh" or lacks:
                reason = state.reason or "it does not find every row that it was made of"
                raise SidecarUnsoundError(target=self.target, path=place, reason=reason)
            create.put(new, place)
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
            signals.check()
            time.sleep(RETRY_SECONDS)

    def drop_sidecar(self, place: Path) -> None:
        from dbctl.engines.sqlite.external_index import create

        self._detach()
        create.drop(place)

    # Comparing it ---------------------------------------------------------------------------------------------

    def sidecar_faults(self, told: Sidecar, *, rows: int) -> Sequence[IndexFault]:
        return self._confirmed([*self._doubts(told), self._lost(told, rows)])

    def sidecar_differs(self, told: Sidecar) -> bool:
        import tempfile

        from dbctl.files import temp

        if self._beside is None:
            raise self._unsound("it is not in use")
        place = self._beside.path
        mine = self._through(self._content)
        with temp.folder(Path(tempfile.gettempdir()), ".dbctl-search-") as folder:
            again = folder / place.name
            again.touch(mode=0o600)
            self._fill(told, again)
            self._attach(again, "mode=ro&immutable=1")
            theirs = self._content()
            self._detach()
        return mine != theirs or self._looked_at(told, place).state != "fresh"

    def _content(self) -> str:
        """Return a digest of all that the attached file tells."""
        import hashlib

        digest = hashlib.sha256()
        for name in (PLACES, f"{SIDE}.texts_data", f"{SIDE}.texts_idx"):
            for row in self._current().execute(f"select * from {name} order by 1, 2"):  # noqa: S608 - a name of ours
                digest.update(repr(row).encode())
        return digest.hexdigest()

    def _confirmed(self, doubts: Sequence[_Doubt]) -> list[IndexFault]:
        from dbctl.engines.contract import IndexFault

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
