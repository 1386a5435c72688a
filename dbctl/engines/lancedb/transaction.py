"""What a transaction wrote is taken back, statement by statement, by further ones that undo it.

``restore`` of the library would be one step. But it refuses every write of whoever has opened the table before, for good: an
app that runs could store nothing any more until it is started again. It is the way only where a table has no key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from dbctl import signals
from dbctl.engines.contract import AnyOf, Condition, Where
from dbctl.engines.lancedb.maintenance import LanceKeeper
from dbctl.engines.lancedb.ownership import for_the_app
from dbctl.engines.lancedb.query import same_row
from dbctl.engines.lancedb.values import Row, rows
from dbctl.errors import ChangedMeanwhileError, DbctlError, HalfWrittenError

if TYPE_CHECKING:
    from lancedb.table import LanceTable

T = TypeVar("T")

#: Keys that are asked for at a time.
KEYS = 5000
#: Rows that are put back at a time, with their vectors.
BATCH = 1024


class Step(NamedTuple):
    """A statement that was done."""

    table: str
    version: int  #: that it made
    undo: Callable[[Step], None]


class LanceUndo(LanceKeeper):
    """Transactions of the contract, out of statements that are one version each."""

    _steps: list[Step] | None = None  #: what the transaction did; None outside one
    _now: dict[str, int]  #: the version of each table that it wrote last, or went back to
    _mixed: set[str]  #: tables that somebody else wrote between two of its statements

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if self._steps is not None:
            yield from self._inside(self._steps)
            return
        self._renew()
        self._steps, self._now, self._mixed = [], {}, set()
        try:
            yield from self._inside(self._steps)
        finally:
            self._steps = None

    def _inside(self, steps: list[Step]) -> Iterator[None]:
        at = len(steps)
        try:
            yield
            signals.check()
        except BaseException as error:  # also on a signal: what is half done must not stay
            with signals.unheard():
                self._take_back(steps, at, error)
            raise

    def _take_back(self, steps: list[Step], at: int, error: BaseException) -> None:
        """Undo what was done since there were ``at`` steps, the last first.

        Raises:
            HalfWrittenError: somebody else changed the same rows meanwhile, or storage is gone.
        """
        stuck = dict[str, str]()
        while len(steps) > at:
            step = steps.pop()
            try:
                step.undo(step)
            except DbctlError as why:
                stuck[step.table] = str(why)
        if stuck:
            failed = HalfWrittenError(
                target=self.target, tables=", ".join(stuck), reason=str(error) or type(error).__name__
            )
            failed.details = list(stuck.values())
            raise failed from error

    def _renew(self) -> None:
        """Look anew at what others wrote."""
        with self._told():
            for one in self._handles().values():
                one.checkout_latest()
        self._tables = None

    def _want_transaction(self) -> None:
        if self._steps is None:
            raise RuntimeError("nothing is written outside a transaction")

    def _write(self, table: str, write: Callable[[LanceTable], T], undo: Callable[[Step], None]) -> T:
        """Do one statement, and remember how it is undone.

        What somebody else wrote since the transaction began stands before it: the library brings both together, or refuses.
        """
        if self._steps is None:
            raise RuntimeError("nothing is written outside a transaction")
        handle = self._handle(table)
        with self._told(), for_the_app(self._place, table):
            made = write(handle)
            version = handle.version
        if version - 1 != self._now.setdefault(table, version - 1):
            self._mixed.add(table)
        self._now[table] = version
        self._steps.append(Step(table, version, undo if self.key(table) else self._restored))
        return made

    # The ways back -------------------------------------------------------------------------------------------

    def _gone(self, keys: Sequence[Row]) -> Callable[[Step], None]:
        """Return what takes rows away that were inserted."""

        def undo(step: Step) -> None:
            for some in _parts(keys):
                self._delete(step.table, self._those(step.table, some))

        return undo

    def _back(self, asked: str | None) -> Callable[[Step], None]:
        """Return what puts rows back that were deleted."""

        def undo(step: Step) -> None:
            key, before = self.key(step.table), self._at(step.table, step.version - 1)
            left = set(self._keys_of(self._at(step.table, step.version), key, asked))
            gone = [one for one in self._keys_of(before, key, asked) if one not in left]
            for some in _parts(gone):
                there = self._there(step.table, key, some)
                if there:
                    raise ChangedMeanwhileError(target=f"{self.target}: {step.table}")
                where = self._those(step.table, some)
                self._put(step.table, before, f"({where}) and ({asked})" if asked else where)

        return undo

    def _before(self, asked: str | None) -> Callable[[Step], None]:
        """Return what gives rows that were updated what they held."""

        def undo(step: Step) -> None:
            key, before = self.key(step.table), self._at(step.table, step.version - 1)
            after = self._at(step.table, step.version)
            for some in _parts(list(dict.fromkeys(self._keys_of(before, key, asked)))):
                where = self._those(step.table, some)
                self._want_same(step.table, after, where)
                self._delete(step.table, where)
                self._put(step.table, before, where)

        return undo

    def _restored(self, step: Step) -> None:
        """Go back to the version before a statement; only where nobody else wrote meanwhile."""
        handle = self._handle(step.table)
        with self._told():
            handle.checkout_latest()
            if step.table in self._mixed or handle.version != self._now[step.table]:
                raise ChangedMeanwhileError(target=f"{self.target}: {step.table}")
            with for_the_app(self._place, step.table):
                handle.restore(step.version - 1)
            handle.checkout_latest()
            self._now[step.table] = handle.version

    def _want_same(self, table: str, after: LanceTable, where: str) -> None:
        """Look whether rows are still as a statement left them.

        Raises:
            ChangedMeanwhileError: somebody else changed them.
        """
        handle = self._handle(table)
        with self._told():
            handle.checkout_latest()
            if handle.version != after.version and _sorted(handle, where) != _sorted(after, where):
                raise ChangedMeanwhileError(target=f"{self.target}: {table}")

    def _put(self, table: str, source: LanceTable, where: str) -> None:
        """Insert rows of another version again."""
        with self._told():
            found = source.search(None).where(where).to_batches(BATCH)
        self._again(table, lambda one: one.add(found))

    def _delete(self, table: str, where: str) -> None:
        self._again(table, lambda one: one.delete(where))

    def _again(self, table: str, change: Callable[[LanceTable], object]) -> None:
        handle = self._handle(table)
        with self._told():
            handle.checkout_latest()
            with for_the_app(self._place, table):
                change(handle)
            self._now[table] = handle.version

    def _at(self, table: str, version: int) -> LanceTable:
        with self._told():
            opened = cast("LanceTable", self._place.connection.open_table(table))
            opened.checkout(version)
        return opened

    def _keys_of(self, source: LanceTable, key: Sequence[str], asked: str | None) -> list[Row]:
        with self._told():
            query = source.search(None).select(list(key))
            found = (query.where(asked) if asked else query).to_batches()
            return [row for batch in found for row in rows(batch, key)]

    def _there(self, table: str, key: Sequence[str], keys: Sequence[Row]) -> set[Row]:
        """Return those keys that rows have."""
        return set(self._read(table, key, [_one_of(key, keys)]))

    def _those(self, table: str, keys: Sequence[Row]) -> str:
        return self.predicate(table, [_one_of(self.key(table), keys)]) or ""


def _one_of(key: Sequence[str], keys: Sequence[Row]) -> Where:
    if len(key) > 1:
        return AnyOf([same_row(key, row) for row in keys])
    told: list[Where] = [Condition(key[0], "in", [value for (value,) in keys if value is not None])]
    return AnyOf([*told, *([Condition(key[0], "=", None)] if (None,) in keys else [])])


def _parts(keys: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for at in range(0, len(keys), KEYS):
        yield keys[at : at + KEYS]


def _sorted(table: LanceTable, where: str) -> list[str]:
    return sorted(
        repr(row) for batch in table.search(None).where(where).to_batches(BATCH) for row in batch.to_pylist()
    )
