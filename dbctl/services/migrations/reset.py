"""``migrate reset``: empty a development database and run every migration again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from dbctl.engines import registry
from dbctl.engines.contract import Capability, Measures, Readable
from dbctl.errors import (
    DatabaseMissingError,
    LedgerForeignError,
    PlanChangedError,
    ResetRefusedError,
    UsageError,
)
from dbctl.model import Page, Plan, counted
from dbctl.services.app import App
from dbctl.services.migrations.executor import migrating
from dbctl.services.migrations.files import MigrationFile
from dbctl.services.migrations.ledger import Standing, judged
from dbctl.services.migrations.safety_backup import Safety
from dbctl.services.migrations.status import look, tracks
from dbctl.services.migrations.up import Applied, apply_all, planned_of

#: The purpose of the safety backup in messages.
PURPOSE = "migrate reset"


class Reset:
    """A reset of one database, under the lock of dbctl's writers."""

    def __init__(
        self,
        app: App,
        database: str = "",
        folder: Path | None = None,
        *,
        shape: str = "",
        safety: Safety | None = None,
    ) -> None:
        """Read the folder.

        Args:
            app: the app.
            database: its name; required if several databases have migrations.
            folder: the folder of migrations, instead of the configured one.
            shape: the shape of the new database, if the migrations have several.
            safety: where the safety backup is stored; the default is the configuration's.

        Raises:
            ResetRefusedError: the app is protected.
            UsageError: the database is ambiguous.
        """
        self.app, self.protected = app.name, app.protected
        if app.protected:
            raise ResetRefusedError(app=app.name)
        targets = tracks(app, database, folder, shape=shape)
        if len(targets) > 1:
            names = ", ".join(track.database for track in targets)
            raise UsageError(detail=f"choose the database to reset: --db {names}")
        (self._track,) = targets
        self._opened, self._safety = app, safety or Safety(app)
        self.target = self._track.target

    def plan(self) -> Plan:
        """Return the objects to drop and the migrations to run.

        Raises:
            UsageError: the folder holds no migration.
            MigrationInvalidError: a file cannot be run.
            LedgerForeignError: another runner keeps the ledger.
        """
        files = self._files()
        rows = self._rows()
        steps = self._safety.steps(self._track, [PURPOSE]) if rows else []
        if rows:
            tables = counted(len(rows), "table")
            steps.append(
                f"drop {tables} with {counted(sum(rows.values()), 'row')}, and all else in the schema"
            )
        steps += [f"run {file.name}" for file in files]
        title = f"Reset {self._track.target}"
        return Plan(title=title, target=self.target, steps=steps, rows=rows, destructive=bool(rows))

    def apply(self, seen: str | None = None) -> Page[Applied]:
        """Empty the database and run every migration.

        Raises:
            PlanChangedError: the plan differs from the confirmed plan ``seen``; nothing was changed.
            ConstraintError: an object outside of the database's own schemas depends on an object to drop.
            MigrationFailedError: a migration failed; the database contains only the results of the migrations before it.
        """
        if seen is not None and self.plan().digest != seen:
            raise PlanChangedError(target=self.target)
        self._files()
        track, done = self._track, list[Applied]()
        with (
            self._safety.kept(track, [PURPOSE] if self._rows() else []) as backup,
            self._opened.writer(track.database, PURPOSE, create=True) as db,
        ):
            ready = migrating(db)
            with ready.schema_transaction():
                for sql in ready.drop_statements():
                    ready.run_statement(sql)
            apply_all(track, db, done=done, safety_backup=backup)
        return Page(items=done, total=len(done), names=Applied.__struct_fields__)

    def _files(self) -> list[MigrationFile]:
        """Return the migrations for an empty database."""
        track = self._track
        try:
            state = look(self._opened, track)
        except DatabaseMissingError:
            pass
        else:
            if state.track.foreign:
                raise LedgerForeignError(target=track.target, runner=state.track.foreign.runner)
        empty = Standing(track=track, migrations=judged(track, []), recorded=False, empty=True)
        files = [file for file, _ in planned_of(empty)]
        if not files:
            raise UsageError(detail=f"{track.folder.path} holds no migration that could be run")
        return files

    def _rows(self) -> dict[str, int]:
        """Return the approximate number of rows of each table; none if the database does not exist."""
        track = self._track
        try:
            url = self._opened.url(track.database)
            with closing(registry.open_for_reading(url, track.target, timeout=self._opened.timeout)) as db:
                return _count(db)
        except DatabaseMissingError:
            return {}


def _count(db: Readable) -> dict[str, int]:
    if Capability.MEASURE in db.capabilities and isinstance(db, Measures):
        return {size.table: size.rows for size in db.measured(exact=False)}
    return {name: db.count(name) for name, table in db.tables().items() if not table.view}
