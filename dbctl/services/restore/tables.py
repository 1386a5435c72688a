"""``restore apply --table``: restore single tables into a new table, or merge their rows by key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from dbctl import signals
from dbctl.engines.contract import Readable, Table, Writable
from dbctl.errors import IN_DOUBT, AlreadyExistsError, PlanChangedError, TableNotRestoredError
from dbctl.model import ChangeResult, Plan, Row, format_count
from dbctl.services.app import App, LiveTable, audit, find_secret_columns, require_row_count
from dbctl.services.backup import (
    DecryptionKeys,
    EncryptionPolicy,
    Manifest,
    MemberReader,
    Repository,
    Source,
    open_reader,
)
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
from dbctl.services.restore.source import open_content, require_backup, verify_members
from dbctl.services.restore.steps import CallFunction, CreateSafetyBackup, ReleaseLocks, run_steps
from dbctl.services.rules import RowRules, guard_constraints

Advance = Callable[[int], None]


class TablesRestoreResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``restore apply --table``."""

    backup: str
    target: str
    safety_backup: str | None  #: id of the backup of the previous state; None: no row was replaced
    tables: Sequence[RestoredTable]
    notes: Sequence[str]  #: manual actions

    @property
    def remarks(self) -> Sequence[str]:
        return self.notes

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


class RestoreTables:
    """Restore tables of one database in one transaction."""

    purpose = "restore apply --table"

    def __init__(
        self,
        app: App,
        repository: Repository,
        manifest: Manifest,
        selection: TableSelection,
        keys: DecryptionKeys,
        *,
        timeout: float,
        advance: Advance = lambda _bytes: None,
    ) -> None:
        """Select the tables.

        Args:
            app: the app.
            repository: its backups.
            manifest: the backup; it may contain only some tables.
            selection: the tables, and how to restore their rows.
            keys: the keys for the backup, already prepared.
            timeout: seconds to wait for a lock.
            advance: receives the number of bytes processed since the last call.

        Raises:
            UsageError: the way to restore the rows is missing or ambiguous.
            TableMissingError: the backup does not contain such a table.
            ReadOnlyError: the database belongs to another program.
            And as ``select_members``.
        """
        self._open_app, self._repository, self._manifest = app, repository, manifest
        self._keys = keys
        self._selection, self._timeout, self._advance = selection, timeout, advance
        self._member = select_member(app, repository, manifest, selection)
        app.require_writable(self._member.database)
        self._merge = Merge(app, self._member.database, selection, manifest.id)
        self.app, self.protected = app.name, app.protected
        self.target = app.target(self._member.database)

    def plan(self) -> Plan:
        """Return the rows to insert and replace; the live database is not changed."""
        with self._source() as source, self._writer() as db:
            return self._create_plan(
                db,
                self._source_table(source)
                if self._selection.new_name
                else self._merge.stage_tables(source, db),
            )

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
        app, store = self._open_app, self._repository.store
        with ExitStack() as locks:
            locks.enter_context(store.lock(self.purpose, timeout=self._timeout))
            reader = locks.enter_context(open_reader(store, self._keys))
            require_backup(self._repository, self._manifest)
            verify_members(
                app,
                self._repository,
                self._manifest,
                [self._member],
                keys=self._keys,
                reader=reader,
                advance=self._advance,
            )
            create_safety_backup = self._plan_safety_backup()
            restore_rows = CallFunction(lambda: self._restore_rows(reader, confirmed))
            create_result = CallFunction(
                lambda: self._create_result(create_safety_backup, restore_rows.result)
            )
            run_steps(
                prepare=[create_safety_backup] if create_safety_backup else [],
                change=[restore_rows],
                finish=[create_result, ReleaseLocks(locks)],
            )
            return create_result.result

    def _plan_safety_backup(self) -> CreateSafetyBackup | None:
        """Return the step that creates the safety backup; None: no row will be replaced."""
        if self._selection.merge != "replace":
            return None
        return CreateSafetyBackup(
            self._open_app,
            self._repository,
            [Source(self._open_app, self._member.database, self._advance)],
            EncryptionPolicy(self._open_app),
            restored=self._manifest.id,
            is_needed=lambda error: isinstance(error, IN_DOUBT),
        )

    def _restore_rows(self, reader: MemberReader, confirmed: str | None) -> Sequence[RestoredTable]:
        """Restore the rows in one transaction."""
        with self._source(reader) as backup, self._writer() as db:
            restore = self._create_table if self._selection.new_name else self._merge_tables
            return restore(backup, db, confirmed)

    def _create_result(
        self, safety: CreateSafetyBackup | None, tables: Sequence[RestoredTable]
    ) -> TablesRestoreResult:
        return TablesRestoreResult(
            backup=self._manifest.id,
            target=self.target,
            safety_backup=safety.manifest.id if safety else None,
            tables=tables,
            notes=list(self._notes(tables)),
        )

    # Sources ------------------------------------------------------------------------------------------------------

    def _source(self, reader: MemberReader | None = None) -> AbstractContextManager[Readable]:
        return open_content(
            self._open_app, self._repository, self._manifest, self._member, self._keys, reader=reader
        )

    @contextmanager
    def _writer(self) -> Iterator[Writable]:
        with self._open_app.writer(self._member.database, self.purpose) as db:
            yield db

    # Merge by key --------------------------------------------------------------------------------------------------

    def _merge_tables(self, source: Readable, db: Writable, confirmed: str | None) -> list[RestoredTable]:
        app, done = self._open_app, list[RestoredTable]()
        tables = self._merge.stage_tables(source, db)
        with db.transaction():
            if confirmed is not None and self._create_plan(db, tables).digest != confirmed:
                raise PlanChangedError(target=self.target)
            written = {
                staged.name: [*staged.compared_columns, *staged.unchanged_columns] for staged in tables
            }
            with guard_constraints(app, self._member.database, db, written):
                for staged in tables:
                    signals.raise_if_interrupted()
                    self._merge.check(db, staged)
                    done.append(self._merge.apply(db, staged))
            for table in done:
                if table.inserted or table.replaced:
                    facts = {"inserted": table.inserted, "replaced": table.replaced, "table": table.table}
                    audit.record(app, db, "restore.apply", "backup", self._manifest.id, facts)
        return done

    # Into a new table ----------------------------------------------------------------------------------------------

    def _source_table(self, source: Readable) -> Table:
        return require_table(source, self._selection.tables[0])

    def _create_table(self, source: Readable, db: Writable, confirmed: str | None) -> list[RestoredTable]:
        table, new = self._source_table(source), self._selection.new_name
        if confirmed is not None and self._create_plan(db, table).digest != confirmed:
            raise PlanChangedError(target=self.target)
        self._require_free_name(db, new)
        table_columns = [column for column in table.columns.values() if not column.is_generated]
        if new != table.name:  # in a table of another name they would not be masked
            secret = find_secret_columns(self._open_app, self._member.database, source).get(table.name, [])
            table_columns = [column for column in table_columns if column.name not in secret]
        columns, key = (
            [column.name for column in table_columns],
            [column.name for column in table.columns.values() if column.is_primary_key],
        )
        key = key if set(key) <= set(columns) else []
        with require_staging(db).create_table(new, table_columns, key):
            rows = Rows(source, db, table.name, new, columns)
            checked_rows = self._check_rows(db, new, columns, rows)
            inserted = db.insert_many(new, columns, checked_rows)
            require_row_count(inserted, rows.count, db)
            facts = {"inserted": inserted, "table": table.name, "into": new}
            audit.record(self._open_app, db, "restore.apply", "backup", self._manifest.id, facts)
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
        live_table = LiveTable(self._open_app.profile, db, new, self.purpose)
        rules = RowRules(self._open_app, self._member.database, live_table)
        rules.prepare()
        for row in rows:
            try:
                rules.check_added(dict(zip(columns, row, strict=True)))
            except RULE_ERRORS as error:
                raise TableNotRestoredError(
                    table=new,
                    target=self.target,
                    id=self._manifest.id,
                    reason=f"row {rows.count} of the backup: {error}",
                    hint="Choose another name with --into: the app has no rules for it.",
                ) from error
            yield row

    def _require_free_name(self, db: Writable, new: str) -> None:
        """Check that a name is unused; some databases ignore case."""
        if new.casefold() in {name.casefold() for name in db.tables()}:
            hint = "Choose another name, or merge the rows into the existing table: --merge missing"
            raise AlreadyExistsError(target=self.target, kind="a table", name=new, hint=hint)
        if kind := require_staging(db).find_name_conflict(new):
            hint = f"Choose another name: in this database, {kind} and a table cannot have the same name."
            raise AlreadyExistsError(target=self.target, kind=kind, name=new, hint=hint)

    # Plan, notes ----------------------------------------------------------------------------------------------------------

    def _create_plan(self, db: Writable, source: Table | Sequence[StagedTable]) -> Plan:
        steps = [f"verify {self._manifest.id}: checksums, integrity, rows, schema"]
        rows, replaces = dict[str, int](), False
        if isinstance(source, Table):
            self._require_free_name(db, self._selection.new_name)
            row_count = self._member.rows[source.name]
            steps.append(
                f"create the table {self._selection.new_name} with the columns and the key of {source.name} only"
            )
            steps.append(f"fill it with {format_count(row_count, 'row')}")
            rows[self._selection.new_name] = row_count
        else:
            if self._selection.merge == "replace":
                steps.append(f"create a safety backup of {self._member.database}")
            for table in source:
                self._merge.check(db, table)
                counts = table.staged.compare(table.compared_columns)
                replaces |= self._selection.merge == "replace" and counts.differing > 0
                steps += self._merge.describe_steps(table, counts)
                written_rows = counts.missing + (
                    counts.differing if self._selection.merge == "replace" else 0
                )
                rows[table.name] = written_rows
        created_at = f"{self._manifest.created_at:%Y-%m-%d %H:%M} UTC"
        tables = ", ".join(self._selection.tables)
        return Plan(
            title=f"Restore {tables} of {self._manifest.id} ({created_at})",
            target=self.target,
            steps=steps,
            rows=rows,
            destructive=replaces,
        )

    def _notes(self, done: Sequence[RestoredTable]) -> Iterator[str]:
        users = find_users_section(self._open_app, self._member.database)
        for table in done:
            if table.ignored_columns:
                yield f"{table.into} has no {', '.join(table.ignored_columns)}: the values of the backup were ignored"
            if users and table.into == users.table and table.replaced:
                yield "roles and states of users are those of the backup; revoke sessions with: dbctl sessions revoke LOGIN"
