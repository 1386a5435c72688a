"""``restore apply --table``: restore single tables into a new table, or merge their rows by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack

from dbctl import signals
from dbctl.engines.contract.database import Readable, Table, Writable
from dbctl.engines.contract.streaming import require_table_name
from dbctl.errors.base import Remedy
from dbctl.errors.connection import IN_DOUBT
from dbctl.errors.databases import AlreadyExistsError
from dbctl.model import ChangeResult, Effect, Plan, Row, format_count
from dbctl.services.app import audit
from dbctl.services.app.change import require_row_count
from dbctl.services.app.live_table import LiveTable
from dbctl.services.app.secrets import find_secret_columns
from dbctl.services.backup.member_files import MemberReader
from dbctl.services.backup.sources import Source
from dbctl.services.restore.merge import (
    RULE_ERRORS,
    Merge,
    RestoredTable,
    Rows,
    StagedTable,
    TableSelection,
    find_users_section,
    require_staging,
    require_table,
    select_member,
)
from dbctl.services.restore.replacement import SafetyBackup, Step, run_steps
from dbctl.services.restore.source import BackupSource, RestoreOperation
from dbctl.services.rules.rows import RowRules, guard_constraints
from dbctl.spec import Write

#: Its rows are those of a file, unlike those of a whole backup.
RESTORED_TABLE = Write(source="input", facts=("audit",))
#: How a plan opens the database: its temporary tables are no operation of the audit log.
PLANNED_TABLE = Write(source="input", facts=("audit",), audited=False)


class TablesRestoreResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``restore apply --table``."""

    is_timed = True

    backup: str
    target: str
    safety_backup: str | None  #: id of the backup of the previous state; None: no row was replaced
    tables: Sequence[RestoredTable]
    remarks: Sequence[str]  #: manual actions

    @property
    def effect(self) -> Effect | None:
        names = ("inserted", "replaced", "same", "skipped")
        counts = {f"rows {name}": sum(getattr(table, name) for table in self.tables) for name in names}
        place = f"from {self.backup}"
        return Effect("restored", "table", count=len(self.tables), place=place, counts=counts)

    def summary(self) -> Row:
        summary: dict[str, object] = {"backup": self.backup}
        if self.safety_backup:
            summary["safety_backup"] = self.safety_backup
        summary["tables"] = [
            {
                "table": table.into,
                "inserted": table.inserted,
                "replaced": table.replaced,
                "same": table.same,
                "skipped": table.skipped,
            }
            for table in self.tables
        ]
        return summary


class RestoreTables(RestoreOperation):
    """Restore tables of one database in one transaction."""

    def __init__(self, source: BackupSource, selection: TableSelection) -> None:
        """Select the tables; the backup may contain only some.

        Raises:
            UsageError: the way to restore the rows is missing or ambiguous.
            TableMissingError: the backup does not contain such a table.
            ReadOnlyError: the database belongs to another program.
            And as ``BackupSource.select_members``.
        """
        self._selection, self._member = selection, select_member(source, selection)
        super().__init__(source, self._member.database)
        self._app.require_writable(self._member.database)
        self._merge = Merge(self._app, self._member.database, selection, self._manifest.id)

    def size(self) -> int:
        return self._member.bytes + (self._member.size if self._selection.merge == "replace" else 0)

    def plan(self) -> Plan:
        """Return the rows to insert and replace; the live database is not changed."""
        with self._source.open_content(self._member) as source, self._open_writer(PLANNED_TABLE) as db:
            if self._selection.new_name:
                return self._plan_table(db, source)
            return self._plan_merge(db, self._merge.stage_tables(source, db))

    def apply(self, confirmed: str | None = None) -> TablesRestoreResult:
        """Restore the tables in one transaction.

        Raises:
            BackupMissingError: the backup was pruned since the plan; nothing was changed.
            BackupCorruptError: the backup is damaged; nothing was changed.
            ConstraintError: a row violates a foreign key or another constraint; nothing was changed.
            LastAdminError: no active admin would be left; nothing was changed.
            TableNotRestoredError: a row of the backup violates a rule of the app; nothing was changed.
            PlanChangedError: the plan differs from the confirmed plan; nothing was changed.
        """
        done, results = list[RestoredTable](), list[TablesRestoreResult]()
        with ExitStack() as locks:
            locks.enter_context(self._lock())
            reader = locks.enter_context(self._source.open_reader())
            self._source.require_existing()
            self._source.verify([self._member], reader)
            safety = self._plan_safety_backup()
            run_steps(
                prepare=[safety.step] if safety else [],
                change=[Step(lambda: done.extend(self._restore_rows(reader, confirmed)))],
                finish=[Step(lambda: results.append(self._create_result(safety, done))), Step(locks.close)],
            )
        return results[0]

    def _plan_safety_backup(self) -> SafetyBackup | None:
        """Return the safety backup to create; None: no row will be replaced."""
        if self._selection.merge != "replace":
            return None
        return SafetyBackup(
            self._source,
            [Source(self._app, self._member.database)],
            is_needed=lambda error: isinstance(error, IN_DOUBT),
        )

    def _restore_rows(self, reader: MemberReader, confirmed: str | None) -> Sequence[RestoredTable]:
        with (
            self._source.open_content(self._member, reader) as source,
            self._open_writer(RESTORED_TABLE) as db,
        ):
            restore = self._create_table if self._selection.new_name else self._merge_tables
            return restore(source, db, confirmed)

    def _open_writer(self, write: Write) -> AbstractContextManager[Writable]:
        return self._app.writer(self._member.database, write)

    def _create_result(
        self, safety: SafetyBackup | None, tables: Sequence[RestoredTable]
    ) -> TablesRestoreResult:
        return TablesRestoreResult(
            backup=self._manifest.id,
            target=self.target,
            safety_backup=safety.manifest.id if safety else None,
            tables=tables,
            remarks=list(self._remarks(tables)),
        )

    def _merge_tables(self, source: Readable, db: Writable, confirmed: str | None) -> list[RestoredTable]:
        app, done = self._app, list[RestoredTable]()
        tables = self._merge.stage_tables(source, db)
        with db.transaction():
            self._require_confirmed(confirmed, lambda: self._plan_merge(db, tables))
            written = {
                staged.name: [*staged.compared_columns, *staged.unchanged_columns] for staged in tables
            }
            with guard_constraints(app, self._member.database, db, written):
                db.defer_references()  # of circles
                for staged in tables:
                    signals.raise_if_interrupted()
                    self._merge.check(db, staged)
                    done.append(self._merge.apply(db, staged))
                done = [self._merge.complete(db, *table) for table in zip(tables, done, strict=True)]
            for table in done:
                if table.inserted or table.replaced:
                    facts = {"inserted": table.inserted, "replaced": table.replaced, "table": table.table}
                    audit.record(app, db, "restore.apply", "backup", self._manifest.id, facts)
        return done

    def _require_table(self, source: Readable) -> Table:
        return require_table(source, self._selection.tables[0])

    def _create_table(self, source: Readable, db: Writable, confirmed: str | None) -> list[RestoredTable]:
        table, new = self._require_table(source), self._selection.new_name
        self._require_confirmed(confirmed, lambda: self._plan_table(db, source))
        self._require_free_name(db, new)
        table_columns = [column for column in table.columns.values() if not column.is_generated]
        if new != table.name:  # in a table of another name they would not be masked
            secret = find_secret_columns(self._app, self._member.database, source).get(table.name, [])
            table_columns = [column for column in table_columns if column.name not in secret]
        columns = [column.name for column in table_columns]
        key = table.primary_key
        key = key if set(key) <= set(columns) else []
        with require_staging(db).create_table(new, table_columns, key, db.transaction):
            rows = Rows(source, db, table.name, new, columns)
            checked_rows = self._check_rows(db, new, columns, rows)
            inserted = db.insert_many(new, columns, checked_rows)
            require_row_count(inserted, rows.count, db)
            facts = {"inserted": inserted, "table": table.name, "into": new}
            audit.record(self._app, db, "restore.apply", "backup", self._manifest.id, facts)
        ignored = [column for column in table.columns if column not in columns]
        return [
            RestoredTable(
                table=table.name,
                into=new,
                inserted=inserted,
                replaced=0,
                same=0,
                skipped=0,
                ignored_columns=ignored,
            )
        ]

    def _check_rows(
        self, db: Writable, new: str, columns: Sequence[str], rows: Rows
    ) -> Iterator[Sequence[object]]:
        """Yield rows of the backup; refuse those that violate the app's rules for a table of the new name."""
        live_table = LiveTable(self._app.profile, db, new, self._app.spec.name)
        rules = RowRules(self._app, self._member.database, live_table)
        rules.prepare()
        for row in rows:
            try:
                rules.check_added(dict(zip(columns, row, strict=True)))
            except RULE_ERRORS as error:
                hint = "Choose another name with --into: the app has no rules for it."
                reason = f"row {rows.count} of the backup: {error}"
                raise self._merge.not_restored(new, reason, hint) from error
            yield row

    def _require_free_name(self, db: Writable, new: str) -> None:
        """Check that a name is unused; some databases ignore case."""
        if new.casefold() in {name.casefold() for name in db.tables()}:
            hint = "Choose another name, or merge the rows into the existing table: --merge missing"
            raise AlreadyExistsError(target=self.target, kind="a table", name=new, hint=hint)
        require_table_name(db, new)

    def _plan_table(self, db: Writable, source: Readable) -> Plan:
        """Return the plan of a new table, which gets no earlier versions of rows."""
        table, new = self._require_table(source), self._selection.new_name
        row_count = source.count(table.name)
        self._require_free_name(db, new)
        steps = [
            f"create the table {new} with the columns and the key of {table.name} only",
            f"fill it with {format_count(row_count, 'row')}",
        ]
        return self._create_restore_plan(steps, {new: row_count})

    def _plan_merge(self, db: Writable, tables: Sequence[StagedTable]) -> Plan:
        replaces = self._selection.merge == "replace"
        replaced_rows = 0
        rows = dict[str, int]()
        steps = list[str]()
        if replaces:
            steps.append(f"create a safety backup of {self._member.database}")
        for table in tables:
            self._merge.check(db, table)
            counts = table.staged.compare(table.compared_columns)
            steps += self._merge.describe_steps(db, table, counts)
            rows[table.name] = counts.missing + (counts.differing if replaces else 0)
            replaced_rows += counts.differing if replaces else 0
        return self._create_restore_plan(steps, rows, destructive=replaced_rows > 0)

    def _create_restore_plan(
        self, steps: Sequence[str], rows: Mapping[str, int], *, destructive: bool = False
    ) -> Plan:
        verification = f"verify {self._manifest.id}: checksums, integrity, rows, schema"
        title = f"Restore {', '.join(self._selection.tables)} of {self._source.label}"
        return self._create_plan(title, [verification, *steps], rows, destructive=destructive)

    def _remarks(self, done: Sequence[RestoredTable]) -> Iterator[str]:
        users = find_users_section(self._app, self._member.database)
        for table in done:
            if table.altered:
                rows = format_count(table.altered, "row")
                yield f"{table.into}: its triggers changed {rows}, so that they differ from the backup"
            if table.ignored_columns:
                yield f"{table.into} has no {', '.join(table.ignored_columns)}: the values of the backup were ignored"
            if users and table.into == users.table and table.replaced:
                yield Remedy(
                    "roles and states of users are those of the backup; revoke sessions with: `sessions revoke LOGIN`"
                ).write()
