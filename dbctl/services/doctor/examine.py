"""What an admin should know before trusting a deployment, each finding with its remedy as a command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import structs

from dbctl.config import Selection
from dbctl.engines import registry
from dbctl.engines.contract import Advises, Capability, Indexes, Measures
from dbctl.errors import BusyError, CutOffWriteError, DatabaseUnsetError, DbctlError, RepositoryUnsetError
from dbctl.model import Examined, Finding, counted
from dbctl.services.app import App, clock, unconfigured
from dbctl.services.app import app as apps
from dbctl.services.backup import status
from dbctl.services.doctor import disk_space, embedder, encryption, files, server, users
from dbctl.services.doctor import server as doctor_server
from dbctl.services.doctor.context import Subject
from dbctl.services.integrity import Checked, cut_off, failure, known_problems, status_of, stored_faults
from dbctl.services.migrations import status as migrate
from dbctl.services.migrations.ledger import UNSOUND, standing
from dbctl.services.search import index, of_database
from dbctl.services.sessions import GRACE, CleanupWork

#: What it is called that a command of ``backup`` has not been run for too long.
DUE = {"create": "backup-due", "verify": "verification-due", "drill": "drill-due"}


class Diagnosis(Checked, frozen=True, kw_only=True):
    """What was found, and in which apps it was looked for."""

    apps: Sequence[str]


class Rounds:
    """What was looked at, what was found, and what kept from looking."""

    def __init__(self) -> None:
        self.checked = 0
        self.apps: list[str] = []
        self.findings: list[Finding] = []
        self.failures: list[DbctlError] = []

    def look(self, target: str, found: Iterable[Finding]) -> bool:
        """Take in what is found, and what ends the search for it; return whether nothing did."""
        try:
            self.findings += found
        except DbctlError as error:
            self.fail(target, error)
            return False
        self.checked += 1
        return True

    def fail(self, target: str, error: DbctlError, hint: str = "") -> None:
        """Take in what kept from looking; ``hint`` is a remedy that knows more than the error's own."""
        told = failure(target, error)
        self.failures.append(error)
        self.findings.append(structs.replace(told, hint=hint or told.hint))


def examine(said: Sequence[Selection], *, timeout: float, only: str = "") -> Diagnosis:
    """Look over some apps; nothing is written, not even what readers of a database share.

    Args:
        said: which apps, as the options say it.
        timeout: how long to wait for a lock, in seconds.
        only: the one database of each that is looked at.

    Raises:
        DbctlError: what keeps the only app from being known; of several, the others are looked at all the same.
    """
    rounds = Rounds()
    for one in said:
        try:
            with apps.opened(one, timeout=timeout, only=only, traceless=True) as app:
                _app(rounds, app, one)
        except DbctlError as error:
            if len(said) == 1:
                raise
            rounds.fail(one.app, error)
    for file in files.configurations(said):
        rounds.look(str(file), files.configuration(file))
    found = list(dict.fromkeys(rounds.findings))  # what keeps two looks from a database is told once
    return Diagnosis(
        findings=Examined(checked=rounds.checked, findings=found),
        status=status_of(found, rounds.failures),
        apps=rounds.apps,
    )


def _app(rounds: Rounds, app: App, said: Selection) -> None:
    rounds.apps.append(app.name)
    subjects = {name: Subject(app, said, name) for name in app.profile.databases if app.only in ("", name)}
    sound = {name: subject for name, subject in subjects.items() if _database(rounds, subject)}
    for subject in sound.values():
        if subject.told.migrations:
            rounds.look(subject.target, _migrations(subject))
    if home := sound.get(users.home(app)):
        rounds.look(home.target, users.roles(home))
        for told in app.profile.check:
            rounds.look(home.target, users.known_login(home, told))
    for subject in sound.values():
        rounds.look(subject.target, _suspicions(subject))
        rounds.look(subject.target, _stored_faults(subject))
    rounds.look(app.name, cut_off(app))
    for subject in subjects.values():
        if subject.database in app.configured.databases:
            rounds.look(subject.target, disk_space.forsaken(subject))
    rounds.look(app.name, _backups(app, said, list(subjects.values())))
    rounds.look(app.name, encryption.keys(app))
    if app.configured.embedder:
        rounds.look(app.name, embedder.embedder(app, app.configured.embedder))
    rounds.look(app.name, doctor_server.scratch(app))
    rules = {rule.database or app.main() for rule in app.profile.cleanup}
    if rules and rules <= sound.keys():
        subject = sound[min(rules)]
        rounds.look(subject.target, _cleanup(subject))


def _database(rounds: Rounds, subject: Subject) -> bool:
    """Look at one database and its files; return whether it can be read."""
    app, name, target = subject.app, subject.database, subject.target
    try:
        housing = registry.housing(app.url(name))
        if housing:
            if not rounds.look(target, files.files(subject, housing)):
                return False
            rounds.look(target, disk_space.room(subject, housing))
        db = app.reader(name)
    except DatabaseUnsetError as error:
        if app.only == name:
            rounds.fail(target, error)
        elif not subject.told.optional:
            rounds.findings.append(failure(target, error, "warning"))
        else:
            rounds.findings += unconfigured.findings(app, name)
        return False
    except DbctlError as error:
        rounds.fail(target, error, _remedy(subject, error))
        return False
    if Capability.ADVISE in db.capabilities and isinstance(db, Advises):
        rounds.look(target, doctor_server.server(subject, db))
    if Capability.INDEXES in db.capabilities and isinstance(db, Indexes):
        rounds.look(target, server.indexes(subject, db))
    if Capability.MEASURE not in db.capabilities or not isinstance(db, Measures):
        return True
    return rounds.look(target, disk_space.storage(subject, db, housing))


def _remedy(subject: Subject, error: DbctlError) -> str:
    """Return the command that helps against what keeps a database from being read; empty where none is safe."""
    if isinstance(error, BusyError):
        return subject.dbctl("stats", "locks")
    if isinstance(error, CutOffWriteError) and subject.written:
        return subject.dbctl("integrity", "check")  # rolls back what was cut off, and looks at what is left
    return ""


def _migrations(subject: Subject) -> Iterator[Finding]:
    (track,) = migrate.tracks(subject.app, subject.database, may_lack_folder=True)
    found = standing(track, subject.app.reader(subject.database))
    database = ("--db", subject.database)
    verify = subject.dbctl("migrate", "verify", *database)
    wrong = [one for one in found.migrations if one.state in UNSOUND]
    if found.unrecorded:
        message = f"there is no ledger ({track.ledger.table}), so nothing tells which migrations it has had"
        yield subject.finding(
            "warning", "ledger-missing", message, subject.dbctl("migrate", "baseline", *database)
        )
    elif wrong:
        # The files that travel with dbctl need not be those that the app was deployed with.
        whose = "the app's own" if track.folder.own else "dbctl's own"
        names = ", ".join(f"{one.name} ({one.state})" for one in wrong)
        message = f"the ledger does not agree with {whose} migrations: {names}"
        yield subject.finding(
            "error" if track.folder.own else "warning", "migrations-unsound", message, verify
        )
    elif pending := found.named("pending"):
        message = f"{counted(len(pending), 'migration')} pending: {', '.join(pending)}"
        up = subject.dbctl("migrate", "up", *database)
        yield subject.finding("warning", "migrations-pending", message, up)


def _suspicions(subject: Subject) -> Iterator[Finding]:
    app, database, db = subject.app, subject.database, subject.app.reader(subject.database)
    for search, found, message in index.broken(app, database):
        repair = index.RENAME if found.foreign else subject.dbctl("search", "index", "repair", search.name)
        yield subject.finding("warning", "text-index-broken", message, repair)
    for aside in of_database(app, database):
        build = subject.dbctl("search", "index", "build", aside.search.name)
        for neglected in aside.neglect():
            yield structs.replace(neglected, hint=build)
    for known in app.profile.known:
        if (known.database or app.main()) == database and (told := known_problems.known(app, db, known)):
            yield subject.finding(known.severity, "known-secret", told.message, known.hint)
    for flaw in app.profile.flaw:
        if (flaw.database or app.main()) == database and (told := known_problems.flawed(app, db, flaw)):
            yield subject.finding(flaw.severity, "flaw", told.message, flaw.hint)


def _stored_faults(subject: Subject) -> Iterator[Finding]:
    db = subject.app.reader(subject.database)
    for found in stored_faults(subject.app, subject.database, db):
        if found.code != "unknown-role":  # the look at users has a better remedy
            yield found


def _backups(app: App, said: Selection, subjects: Sequence[Subject]) -> Iterator[Finding]:
    found = status.stand(app)
    configured = not (said.profile and said.urls)
    if app.configured.backup is None and configured and any(one.told.backup for one in subjects):
        yield failure(app.name, RepositoryUnsetError(app=app.name), "warning")
    for code, message in found.unsound() if found else ():
        yield subjects[0].finding("error", code, message, subjects[0].dbctl("backup", "verify"))
    for name in found.repository.cut_off if found else ():
        message = status.was_cut_off(name)
        yield subjects[0].finding(
            "warning", "backup-incomplete", message, subjects[0].dbctl("backup", "prune")
        )
    for name in found.repository.future if found else ():
        message = status.from_future(name)
        yield subjects[0].finding(
            "warning", "backup-from-future", message, subjects[0].dbctl("backup", "delete", name)
        )
    if reason := clock.contradiction(app):
        yield subjects[0].finding("warning", "clock-doubted", f"the clock is doubtful: {reason}", "date")
    for one in subjects:
        backups = found.of(one.database) if found else None
        for job, message in backups.due.items() if backups else ():
            yield one.finding("warning", DUE[job], message, one.dbctl("backup", job))


def _cleanup(subject: Subject) -> Iterator[Finding]:
    late = [one for one in CleanupWork(subject.app).due(since=GRACE).items if one.matched]
    if late:
        rows = ", ".join(f"{one.rule} ({counted(one.matched, 'row')})" for one in late)
        message = f"cleanup has been due for more than a day: {rows}"
        yield subject.finding("warning", "cleanup-due", message, subject.dbctl("sessions", "cleanup"))
