"""How every database of some apps stands, in one line each; nothing is written, and nothing large is read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import structs

from dbctl.config import Selection
from dbctl.engines import registry
from dbctl.engines.contract import Advises, Capability, Housing, Measures
from dbctl.errors import DatabaseUnsetError, DbctlError, Exit, ReadOnlyError, gravest
from dbctl.files import volume_of
from dbctl.model import Page, Row, Value, counted
from dbctl.services.app import App
from dbctl.services.app import app as apps
from dbctl.services.backup import AppBackups
from dbctl.services.backup import status as backup_status
from dbctl.services.migrations import status as migrate
from dbctl.services.migrations.ledger import Schema, standing
from dbctl.services.sessions import CleanupWork

#: How long one database may be looked through for rows that a cleanup should have taken.
LOOKING = timedelta(seconds=0.3)


class DatabaseStatus(Value, frozen=True, kw_only=True):
    """How one database stands; what could not be told, or does not apply, is None."""

    app: str
    database: str | None  #: None: the app itself cannot be known
    state: str  #: ``ok``, or the code of the error that says what is wrong
    bytes: int | None = None
    wal_bytes: int | None = None  #: changes that stand beside the file, or their room
    migrations: Schema | None = None  #: ``unrecorded``: there is no ledger
    pending: int | None = None  #: migrations
    overdue: Sequence[str] | None = (
        None  #: rules of ``sessions cleanup`` that have been due for more than a day
    )
    backup_at: datetime | None = None  #: the moment of the newest sound backup that holds it

    def brief(self) -> Row:
        told = {word: getattr(self, word) for word in ("app", "database", "state", "bytes", "wal_bytes")}
        told["migrations"] = f"{self.pending} pending" if self.migrations == "pending" else self.migrations
        told["cleanup"] = None if self.overdue is None else "overdue" if self.overdue else "done"
        return told | {"backup": self.backup_at}


class Surveyed(Value, frozen=True, kw_only=True):
    """How some apps stand."""

    page: Page[DatabaseStatus]
    apps: Sequence[str]
    troubles: Sequence[str]  #: what is wrong, in sentences
    unclear: Sequence[str]  #: what would have taken long to tell
    check: Exit  #: what ``--check`` asks for


def survey(said: Sequence[Selection], *, timeout: float, only: str = "") -> Surveyed:
    """Tell how the databases of some apps stand.

    Args:
        said: which apps, as the options say it.
        timeout: how long to wait for a lock, in seconds.
        only: the one database of each that is looked at.

    Raises:
        DbctlError: what keeps the only app from being known; of several, the others are told all the same.
    """
    found = _Survey()
    for one in said:
        try:
            with apps.opened(one, timeout=timeout, only=only, traceless=True) as app:
                found.look(app)
        except DbctlError as error:
            if len(said) == 1:
                raise
            found.fail(error, one.app)
            found.rows.append(DatabaseStatus(app=one.app, database=None, state=error.code))
    return found.told()


class _Survey:
    """What was seen on the way through some apps."""

    def __init__(self) -> None:
        self.rows: list[DatabaseStatus] = []
        self._apps: list[str] = []
        self._troubles: list[str] = []
        self._unclear: list[str] = []
        self._failed: list[Exit] = []  #: what kept from looking
        self._wanting: list[Exit] = []  #: what looking found

    def told(self) -> Surveyed:
        overall = gravest(self._failed)
        if self._failed and len(self._failed) < len(self.rows):
            overall = Exit.PARTIAL
        return Surveyed(
            page=Page(
                items=self.rows,
                total=len(self.rows),
                names=DatabaseStatus.__struct_fields__,
                nothing="no databases are configured",
            ),
            apps=self._apps,
            troubles=list(dict.fromkeys(self._troubles)),
            unclear=self._unclear,
            check=overall or gravest(self._wanting),
        )

    def fail(self, error: DbctlError, target: str) -> None:
        self._failed.append(error.exit_status)
        self._say(target, str(error))

    def look(self, app: App) -> None:
        self._apps.append(app.name)
        backups = self._backups(app)
        for name, told in app.profile.databases.items():
            if app.only not in ("", name):
                continue
            try:
                housing = registry.housing(app.url(name))
            except DatabaseUnsetError as error:
                if not told.optional:
                    self.fail(error, app.target(name))
                    self.rows.append(DatabaseStatus(app=app.name, database=name, state=error.code))
                continue
            row = self._database(app, name, housing)
            self.rows.append(structs.replace(row, backup_at=self._backup_at(app, name, backups)))

    def _database(self, app: App, name: str, housing: Housing | None) -> DatabaseStatus:
        row = DatabaseStatus(
            app=app.name,
            database=name,
            state="ok",
            bytes=_size(housing),
            wal_bytes=housing.waiting_bytes if housing else None,
        )
        try:
            db = app.reader(name)
            if housing is None and Capability.MEASURE in db.capabilities and isinstance(db, Measures):
                row = structs.replace(row, bytes=db.storage().bytes)
            if Capability.ADVISE in db.capabilities and isinstance(db, Advises):
                for concern in db.abandoned():
                    self._want(Exit.ACTION_NEEDED, app.target(name), f"{concern.message}. {concern.hint}")
        except DbctlError as error:
            self.fail(error, app.target(name))
            return structs.replace(row, state=error.code)
        if app.database(name).mode == "read-write" and housing and _takes_no_writes(housing):
            self._want(Exit.REFUSED, app.target(name), "its disk takes no writes")
            row = structs.replace(row, state=ReadOnlyError.code)
        schema, pending = self._migrations(app, name)
        return structs.replace(row, migrations=schema, pending=pending, overdue=self._overdue(app, name))

    def _migrations(self, app: App, name: str) -> tuple[Schema | None, int | None]:
        if app.database(name).migrations is None:
            return None, None
        target = app.target(name)
        try:
            (track,) = migrate.tracks(app, name, may_lack_folder=True)
            found = standing(track, app.reader(name))
        except DbctlError as error:
            self._want(error.exit_status, target, str(error))
            return None, None
        pending = found.named("pending")
        if found.schema == "none":
            return None, None
        if found.schema == "unrecorded":
            self._want(
                Exit.UNSOUND, target, "there is no ledger, so nothing tells which migrations it has had"
            )
            return found.schema, None
        if found.schema == "unsound":
            self._want(
                Exit.UNSOUND, target, "the ledger does not agree with the migrations (dbctl migrate verify)"
            )
        elif pending:
            self._want(Exit.ACTION_NEEDED, target, f"{counted(len(pending), 'migration')} pending")
        return found.schema, len(pending)

    def _overdue(self, app: App, name: str) -> Sequence[str] | None:
        if name not in {rule.database or app.main() for rule in app.profile.cleanup}:
            return None
        target = app.target(name)
        try:
            late = CleanupWork(app).late(name, within=LOOKING)
        except DbctlError as error:
            self._want(error.exit_status, target, str(error))
            return None
        if late.rules:
            what = f"cleanup has been due for more than a day ({', '.join(late.rules)})"
            self._want(Exit.ACTION_NEEDED, target, what)
        if late.unclear:
            rules = ", ".join(late.unclear)
            self._unclear.append(
                f"{target}: whether {rules} is overdue would take long to tell; sessions cleanup --check tells"
            )
        return late.rules

    def _backups(self, app: App) -> AppBackups | None:
        try:
            found = backup_status.stand(app)
        except DbctlError as error:
            self._want(error.exit_status, app.name, str(error))
            return None
        for _, what in found.unsound() if found else ():
            self._want(Exit.UNSOUND, app.name, what)
        for folder in found.repository.cut_off if found else ():
            self._want(Exit.ACTION_NEEDED, app.name, backup_status.was_cut_off(folder))
        return found

    def _backup_at(self, app: App, name: str, backups: AppBackups | None) -> datetime | None:
        found = backups.of(name) if backups else None
        for what in found.due.values() if found else ():
            self._want(Exit.ACTION_NEEDED, app.target(name), what)
        return found.created_at if found else None

    def _want(self, status: Exit, target: str, what: str) -> None:
        self._wanting.append(status)
        self._say(target, what)

    def _say(self, target: str, what: str) -> None:
        self._troubles.append(what if target in what else f"{target}: {what}")


def _size(housing: Housing | None) -> int | None:
    try:
        return housing.file.stat().st_size if housing else None
    except OSError:
        return None


def _takes_no_writes(housing: Housing) -> bool:
    try:
        return volume_of(housing.file.parent).read_only
    except OSError:
        return False
