"""Run the checks of ``doctor``, ``integrity check``, ``integrity cross-check`` and ``apps check``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Literal, get_args

from msgspec import structs

from dbctl import progress
from dbctl.config.sections import Selection
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import BusyError, InterruptedWriteError, PrivilegeMissingError
from dbctl.errors.databases import TableMissingError
from dbctl.errors.usage import DatabaseNotConfiguredError
from dbctl.extensions import registry
from dbctl.model import CheckResult, Finding, Findings, Row, Severity, Struct
from dbctl.profiles.schema_references import list_schema_references
from dbctl.services.app import unconfigured
from dbctl.services.app.app import App
from dbctl.services.app.evidence.subjects import Check, Needs, Scope, Subject, create_unreadable
from dbctl.services.checks import files
from dbctl.services.checks.base import CheckReport, CheckRun, FileSubject, load_checks


class Diagnosis(CheckReport, frozen=True, kw_only=True):
    """The findings, and the examined apps."""

    apps: Sequence[str]


class DatabaseState(Struct, frozen=True):
    """The result of the check of one database."""

    target: str
    state: Literal["ok"] | Severity  #: the worst severity of its findings


class DatabasesChecked(CheckResult, frozen=True, kw_only=True):
    """Result of ``integrity check``."""

    databases: Sequence[DatabaseState] = ()  #: the checked databases; omitted for a fleet

    def summary(self) -> Sequence[Row]:
        return [structs.asdict(database) for database in self.databases]


def examine(selections: Sequence[Selection], *, timeout: float, only: str = "") -> Diagnosis:
    """Examine the deployments of apps; writes nothing, not even the shared memory of SQLite readers.

    ``only`` restricts the checks to one database.

    Raises:
        DbctlError: the only app cannot be opened. With several apps, the error is a finding.
    """
    run, apps = _DeploymentRun(), list[str]()
    for selection in selections:
        from dbctl.services.app.session import open_app

        try:
            with open_app(selection, timeout=timeout, only=only, traceless=True) as app:
                apps.append(app.name)
                run.run("doctor", Subject(app, selection=selection))
        except DbctlError as error:
            if len(selections) == 1:
                raise
            run.add_error(selection.app, error)
    for file in files.list_configurations(selections):
        for configuration_check in load_checks("configuration"):
            run.run_check(configuration_check, FileSubject(file, str(file)))
    run.findings += [
        Finding.from_error(broken.distribution, broken.error)
        for broken in registry.list_third_party()
        if broken.error
    ]
    findings = run.list_findings()
    return Diagnosis(
        findings=CheckResult(checked=run.checked.total(), unit="target", findings=findings),
        status=run.status,
        apps=apps,
    )


class _AllRowsRun(CheckRun):
    """A row that a policy hides is not missing: the server refuses to read such a table."""

    def run_group(self, checks: Sequence[Check], part: Subject) -> None:
        with ExitStack() as self._blocks:  # one block for several checks, as each one sends two requests
            super().run_group(checks, part)

    def open(self, part: Subject, needs: Needs) -> bool:
        can_open = super().open(part, needs)
        if can_open and needs not in (Needs.NOTHING, Needs.FILES):
            self._blocks.enter_context(part.db.read_all_rows())
        return can_open


class _DeploymentRun(_AllRowsRun):
    def add_unreadable(self, part: Subject, error: DbctlError) -> None:
        hint = ""
        if isinstance(error, BusyError):
            hint = Remedy("`stats locks`").write(part.app.name)
        elif isinstance(error, InterruptedWriteError) and part.is_writable:
            # It rolls back the interrupted write, then checks the database.
            hint = Remedy("`integrity check`").write(part.app.name)
        self.add_error(part.target, error, hint)

    def add_unconfigured(self, part: Subject, error: DatabaseNotConfiguredError) -> None:
        if part.app.only == part.database:
            self.add_error(part.target, error)
        elif part.section.optional:
            self.findings += unconfigured.check_unconfigured(part.app, part.database)
        else:
            super().add_unconfigured(part, error)


def check(app: App, *, quick: bool = False, table: str = "") -> CheckReport:
    """Check every configured database; an error in one does not prevent the checks of the others.

    ``quick`` skips slow checks; ``table`` restricts the check to one table.

    Raises:
        TableMissingError: no database has that table.
        DatabaseNotConfiguredError: the only selected database is not configured.
    """
    run, subject = _IntegrityRun(), Subject(app, table=table, quick=quick)
    run.run("integrity", subject, without=Needs.SCAN if quick else Needs.NOTHING)
    findings = run.list_findings()
    targets = [part.target for part in subject.databases.values() if part.target not in run.omitted]
    if table and not (targets or findings):
        raise TableMissingError(name=table, target=app.name)
    return CheckReport(
        findings=DatabasesChecked(
            checked=len(targets),
            unit="database",
            findings=findings,
            databases=[DatabaseState(target, _find_state(target, findings)) for target in targets],
        ),
        status=run.status,
    )


def _find_state(target: str, findings: Sequence[Finding]) -> Literal["ok"] | Severity:
    severities = [finding.severity for finding in findings if finding.target == target]
    return max(severities, key=get_args(Severity).index, default="ok")


class _IntegrityRun(_AllRowsRun):
    """A failed check ends the checks of its database."""

    def __init__(self) -> None:
        super().__init__()
        self.omitted = set[str]()  #: databases that are not configured, or lack the selected table

    def list_parts(self, parts: Iterator[Subject], scope: Scope) -> Iterator[Subject]:
        return progress.list_parts(parts, "database") if scope == "database" else parts

    def run_group(self, checks: Sequence[Check], part: Subject) -> None:
        """Run the checks; tables without read privileges do not prevent the checks of the others."""
        count = len(self.findings)
        try:
            super().run_group(checks, part)
        except PrivilegeMissingError:
            del self.findings[count:]
            for table in [table.name for table in part.db.tables().values() if not table.is_view]:
                super().run_group(checks, structs.replace(part, table=table))

    def open(self, part: Subject, needs: Needs) -> bool:
        can_open = super().open(part, needs)
        if can_open and needs and part.table and part.table not in part.db.tables():
            part.is_excluded = True
            self.omitted.add(part.target)
        return can_open and not part.is_excluded

    def add_failure(self, part: Subject | FileSubject, error: DbctlError) -> None:
        if isinstance(part, Subject):
            if isinstance(error, PrivilegeMissingError) and not part.table:
                raise error
            part.is_excluded = True
        super().add_failure(part, error)

    def add_unconfigured(self, part: Subject, error: DatabaseNotConfiguredError) -> None:
        if part.app.only == part.database:
            raise error
        self.omitted.add(part.target)
        super().add_unconfigured(part, error)


def cross_check(app: App) -> CheckReport:
    """Check references between databases, stored counts, invariants, and exposed keys.

    Raises:
        FeatureMissingError: the profile defines no such checks.
    """
    profile = app.profile
    sections = [*profile.link, *profile.recount, *profile.invariant, *profile.key_search, *profile.rebuild]
    app.require_section(sections, "cross checks")
    run = _ConsistencyRun()
    run.run("cross-check", Subject(app))
    findings = Findings(
        checked=run.checked.total() - run.checked["app"], unit="relation", findings=run.list_findings()
    )
    return CheckReport(findings=findings, status=run.status)


class _ConsistencyRun(_AllRowsRun):
    def add_failure(self, part: Subject | FileSubject, error: DbctlError) -> None:
        if isinstance(part, Subject) and isinstance(error, DatabaseNotConfiguredError):
            self.add_unconfigured(part, error)
        else:
            self.add_error(str(error.context.get("target", part.target)), error)

    def add_unconfigured(self, part: Subject, error: DatabaseNotConfiguredError) -> None:
        if part.section.optional and part.database not in part.app.configured.databases:
            # a missing database contains no references
            self.findings += unconfigured.check_unconfigured(part.app, part.database)
        else:
            self.findings.append(
                part.finding("info", "not-checked", f"{part.entry.name}: {error}", error.hint)
            )


def check_live(app: App) -> Findings:
    """Check that the live databases have what the profile names, and that their data does not contradict it."""
    run = _ProfileRun()
    if app.variant:
        message = (
            f"the schema is that of the variant {app.variant.name}: it has {', '.join(app.variant.needs)}"
        )
        run.findings.append(Finding(app.target(app.main_database), "info", "variant", message))
    run.run("profile", Subject(app))
    checked = sum(
        reference.database in app.used for reference in list_schema_references(app.profile, app.main_database)
    )
    return Findings(checked=checked, findings=run.list_findings())


class _ProfileRun(CheckRun):
    def add_failure(self, part: Subject | FileSubject, error: DbctlError) -> None:
        """Add an error; a table that the role may not read is one finding of all checks that read it."""
        if isinstance(part, Subject) and isinstance(error, PrivilegeMissingError):
            self.add(part, create_unreadable(("databases", part.database), error))
        else:
            super().add_failure(part, error)
