"""Single tables out of a backup: into a new table beside the old one, or their rows into it by their key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

from dbctl import signals
from dbctl.engines.contract import Readable, Table, Writable
from dbctl.errors import IN_DOUBT, AlreadyExistsError, DbctlError, PlanChangedError, TableNotRestoredError
from dbctl.model import Done, Plan, Row, counted
from dbctl.services.app import App, Live, audit, exactly, hidden
from dbctl.services.backup import Keys, Manifest, Repository, Sealing, Source, Unpacked, make, unpacking
from dbctl.services.restore.merge import (
    REFUSALS,
    Merge,
    Part,
    Rows,
    TableRestored,
    Wanted,
    lays_aside,
    member_of,
    table_of,
    users_in,
)
from dbctl.services.restore.source import content, prove, want_there
from dbctl.services.rules import RowRules, guard

Advance = Callable[[int], None]


class TablesRestored(Done, frozen=True, kw_only=True):
    """Answer of ``restore apply --table``."""

    backup: str
    target: str
    safety_backup: str | None  #: what was there before; None where no row was replaced
    tables: Sequence[TableRestored]
    notes: Sequence[str]  #: what somebody has to look after

    @property
    def remarks(self) -> Sequence[str]:
        return self.notes

    def brief(self) -> Row:
        told: dict[str, object] = {"backup": self.backup}
        if self.safety_backup:
            told["safety_backup"] = self.safety_backup
        told["tables"] = [
            {
                "table": one.into,
                "inserted": one.inserted,
                "replaced": one.replaced,
                "same": one.same,
                "skipped": one.skipped,
            }
            for one in self.tables
        ]
        return told


class RestoringTables:
    """What ``restore apply --table`` is about to do, in one transaction of the live database."""

    purpose = "restore apply --table"

    def __init__(
        self,
        app: App,
        repository: Repository,
        manifest: Manifest,
        wanted: Wanted,
        keys: Keys,
        *,
        timeout: float,
        advance: Advance = lambda _bytes: None,
    ) -> None:
        """Choose the tables.

        Args:
            app: the app.
            repository: its backups.
            manifest: the backup; it may hold some tables alone.
            wanted: which tables, and what becomes of their rows.
            keys: what opens the backup, made ready.
            timeout: seconds to wait for a lock.
            advance: told how many bytes more were moved.

        Raises:
            UsageError: it is not said what becomes of the rows, or it is said twice.
            TableMissingError: the backup does not hold such a table.
            ReadOnlyError: the database belongs to another program.
            And as ``members`` does.
        """
        self._opened, self._repository, self._manifest = app, repository, manifest
        self._keys = keys
        self._wanted, self._timeout, self._advance = wanted, timeout, advance
        self._member = member_of(app, repository, manifest, wanted)
        app.writable(self._member.database)
        self._merge = Merge(app, self._member.database, wanted, manifest.id)
        self.app, self.protected = app.name, app.protected
        self.target = app.target(self._member.database)

    def plan(self) -> Plan:
        """Return what would be inserted and replaced now; of the live database nothing is changed."""
        with self._source() as source, self._writer() as db:
            return self._planned(db, self._new(source) if self._wanted.new else self._merge.parts(source, db))

    def apply(self, seen: str | None = None) -> TablesRestored:
        """Do it, in one transaction.

        Raises:
            BackupMissingError: it was pruned meanwhile; nothing was changed.
            BackupUnsoundError: it is not what it was; nothing was changed.
            ConstraintError: a row points to nothing, or the database refuses it; nothing was changed.
            LastAdminError: no active admin would be left; nothing was changed.
            TableNotRestoredError: a row of the backup is none that the app takes; nothing was changed.
            PlanChangedError: the data has changed since, and with it the plan; nothing was changed.
        """
        app, store, safety = self._opened, self._repository.store, None
        with (
            ExitStack() as over,  # closed last: what is done must not be told as interrupted
            ExitStack() as settled,
            store.lock(self.purpose, timeout=self._timeout),
            unpacking(store, self._keys) as unpacked,
        ):
            want_there(self._repository, self._manifest)
            chosen = [self._member]
            prove(
                app,
                self._repository,
                self._manifest,
                chosen,
                keys=self._keys,
                unpacked=unpacked,
                advance=self._advance,
            )
            if self._wanted.merge == "replace":
                source = Source(app, self._member.database, self._advance)
                safety = make(
                    app,
                    self._repository,
                    [source],
                    sealing=Sealing(app),
                    kind="safety",
                    restored=self._manifest.id,
                    settled=settled,
                )
                app.close()  # closing a reader later would drop the locks that this process holds on its file
            # A signal is heard where the engine looks for one, which is before it commits.
            over.enter_context(signals.held())
            settled.close()
            try:
                with self._source(unpacked) as then, self._writer() as db:
                    bring = self._into_new if self._wanted.new else self._merged
                    done = bring(then, db, seen)
            except BaseException as error:  # also on a signal: what it was made for has not happened
                if safety and not isinstance(error, IN_DOUBT):
                    with signals.unheard(), suppress(DbctlError):  # one backup too many is no failure
                        store.remove(safety.id)
                raise
            over.enter_context(signals.unheard())
            answer = TablesRestored(
                backup=self._manifest.id,
                target=self.target,
                safety_backup=safety.id if safety else None,
                tables=done,
                notes=list(self._notes(done)),
            )
            signals.done()
            return answer

    # What there is -------------------------------------------------------------------------------------------------

    def _source(self, unpacked: Unpacked | None = None) -> AbstractContextManager[Readable]:
        return content(
            self._opened, self._repository, self._manifest, self._member, self._keys, unpacked=unpacked
        )

    @contextmanager
    def _writer(self) -> Iterator[Writable]:
        with self._opened.writer(self._member.database, self.purpose) as db:
            yield db

    # Merged by the key ---------------------------------------------------------------------------------------------

    def _merged(self, source: Readable, db: Writable, seen: str | None) -> list[TableRestored]:
        app, done = self._opened, list[TableRestored]()
        parts = self._merge.parts(source, db)
        with db.transaction():
            if seen is not None and self._planned(db, parts).digest != seen:
                raise PlanChangedError(target=self.target)
            written = {one.name: [*one.compared, *one.stays] for one in parts}
            with guard(app, self._member.database, db, written):
                for one in parts:
                    signals.check()
                    self._merge.check(db, one)
                    done.append(self._merge.taken_in(db, one))
            for table in done:
                if table.inserted or table.replaced:
                    facts = {"inserted": table.inserted, "replaced": table.replaced, "table": table.table}
                    audit.record(app, db, "restore.apply", "backup", self._manifest.id, facts)
        return done

    # Into a new table ----------------------------------------------------------------------------------------------

    def _new(self, source: Readable) -> Table:
        return table_of(source, self._wanted.tables[0])

    def _into_new(self, source: Readable, db: Writable, seen: str | None) -> list[TableRestored]:
        table, new = self._new(source), self._wanted.new
        if seen is not None and self._planned(db, table).digest != seen:
            raise PlanChangedError(target=self.target)
        self._want_free(db, new)
        told = [one for one in table.columns.values() if not one.generated]
        if new != table.name:  # by another name nobody would know them for secrets
            secret = hidden(self._opened, self._member.database, source).get(table.name, [])
            told = [one for one in told if one.name not in secret]
        columns, key = [one.name for one in told], [one.name for one in table.columns.values() if one.key]
        key = key if set(key) <= set(columns) else []
        with lays_aside(db).new_table(new, told, key):
            rows = Rows(source, db, table.name, new, columns)
            judged = self._judged(db, new, columns, rows)
            inserted = db.insert_many(new, columns, judged)
            exactly(inserted, rows.given, db)
            facts = {"inserted": inserted, "table": table.name, "into": new}
            audit.record(self._opened, db, "restore.apply", "backup", self._manifest.id, facts)
        left = [one for one in table.columns if one not in columns]
        return [
            TableRestored(
                table=table.name, into=new, inserted=inserted, replaced=0, same=0, skipped=0, left_out=left
            )
        ]

    def _judged(
        self, db: Writable, new: str, columns: Sequence[str], rows: Rows
    ) -> Iterator[Sequence[object]]:
        """Yield rows of the backup, where the new table has a name for which the app has rules."""
        live = Live(self._opened.profile, db, new, self.purpose)
        rules = RowRules(self._opened, self._member.database, live)
        rules.prepare()
        for row in rows:
            try:
                rules.check_added(dict(zip(columns, row, strict=True)))
            except REFUSALS as error:
                raise TableNotRestoredError(
                    table=new,
                    target=self.target,
                    id=self._manifest.id,
                    reason=f"row {rows.given} of the backup: {error}",
                    instead="--as another name brings the rows into a table for which the app has no rules.",
                ) from error
            yield row

    def _want_free(self, db: Writable, new: str) -> None:
        """Look whether a name is free; to some databases the case of its letters makes no difference."""
        if new.casefold() in {one.casefold() for one in db.tables()}:
            instead = "Choose another name, or bring the rows into the one that is there: --merge missing"
            raise AlreadyExistsError(target=self.target, what="a table", name=new, instead=instead)
        if other := lays_aside(db).namesake(new):
            instead = f"Choose another name: to this database {other} and a table cannot be called the same."
            raise AlreadyExistsError(target=self.target, what=other, name=new, instead=instead)

    # Told ----------------------------------------------------------------------------------------------------------

    def _planned(self, db: Writable, found: Table | Sequence[Part]) -> Plan:
        steps = [f"prove {self._manifest.id}: digests, soundness, rows, schema"]
        rows, replaces = dict[str, int](), False
        if isinstance(found, Table):
            self._want_free(db, self._wanted.new)
            number = self._member.rows[found.name]
            steps.append(
                f"make the table {self._wanted.new}: columns and key of {found.name}, and nothing else that belongs to it"
            )
            steps.append(f"fill it with {counted(number, 'row')}")
            rows[self._wanted.new] = number
        else:
            if self._wanted.merge == "replace":
                steps.append(f"keep {self._member.database} as it is now, as a safety backup")
            for one in found:
                self._merge.check(db, one)
                standing = one.aside.standing(one.compared)
                replaces |= self._wanted.merge == "replace" and standing.differing > 0
                steps += self._merge.steps(one, standing)
                touched = standing.missing + (standing.differing if self._wanted.merge == "replace" else 0)
                rows[one.name] = touched
        made = f"{self._manifest.created_at:%Y-%m-%d %H:%M} UTC"
        tables = ", ".join(self._wanted.tables)
        return Plan(
            title=f"Restore {tables} of {self._manifest.id} ({made})",
            target=self.target,
            steps=steps,
            rows=rows,
            destructive=replaces,
        )

    def _notes(self, done: Sequence[TableRestored]) -> Iterator[str]:
        users = users_in(self._opened, self._member.database)
        for one in done:
            if one.left_out:
                yield f"{one.into} has no {', '.join(one.left_out)}: what the backup holds of it was left out"
            if users and one.into == users.table and one.replaced:
                yield "roles and states of users are those of then; dbctl sessions revoke LOGIN ends what one was given"
