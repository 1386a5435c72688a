"""The registry of checks: sets of them, their subjects, and how a set runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from dbctl.engines.contract.database import Readable
from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.connection import CorruptError
from dbctl.errors.usage import DatabaseNotConfiguredError, ExtensionInvalidError
from dbctl.extensions import registry
from dbctl.extensions.base import SetName
from dbctl.model import Finding, Findings, Struct
from dbctl.profiles import loader
from dbctl.profiles.model.cleanup import Rebuild
from dbctl.profiles.model.integrity import CrossLink
from dbctl.services.app.app import App
from dbctl.services.app.evidence.subjects import (
    UNREADABLE,
    Check,
    Contradiction,
    DoesNotApplyError,
    Needs,
    Scope,
    Subject,
)
from dbctl.services.app.user_table import users_database

#: The checks of each set as ``module:NAME`` of this package, in the order of their findings: adjacent checks of one scope run for
#: each subject in turn. The checks of facts, which also run before a write, are those of ``dbctl.services.app.evidence``.
SETS: Mapping[SetName, Sequence[str]] = {
    "doctor": (
        "files:check_files", "files:check_profile_sections", "disk_space:check_disk", "deployment:check_server", "deployment:check_programs",
        "deployment:check_indexes", "index_advice:check_advice", "disk_space:check_storage", "deployment:check_migrations", "deployment:check_roles",
        "deployment:check_known_login", "known_problems:check_known_problems", "stored_rows:STORED_ROWS_BRIEF",
        "deployment:INTERRUPTED", "deployment:HOOKS_LEFT", "deployment:HOOKS_UNUSABLE", "deployment:LEFTOVERS", "deployment:REPLICA",
        "backups:check_backups", "backups:check_runs", "backups:check_encryption", "backups:check_increments",
        "backups:check_schema_only", "deployment:check_scratch",
        "deployment:check_cleanup", "live_profile:check_proofs",
    ),
    "configuration": ("files:check_configuration",),
    "integrity": (
        "deployment:INTERRUPTED", "damage:check_damage", "damage:check_commits", "damage:check_references",
        "stored_rows:STORED_ROWS", "stored_rows:TIMES", "damage:check_schema", "damage:check_indexes",
    ),
    "cross-check": (
        "deployment:INTERRUPTED", "cross_database:check_link", "cross_database:RECOUNTS", "known_problems:INVARIANTS",
        "known_problems:check_exposed_keys", "cross_database:check_statistics",
    ),
    "profile": (
        "live_profile:check_folder", "live_profile:check_privileges", "live_profile:check_decisions", "live_profile:check_names",
        "live_profile:check_new_users", "live_profile:check_search_keys", "live_profile:check_cleanup", "live_profile:check_views", "live_rows:check_unique_keys", "live_profile:check_variants",
        "live_rows:check_stored_forms", "live_rows:check_role_form", "live_rows:check_reports", "live_rows:check_statements",
        "live_rows:check_passwords", "live_rows:check_owned_rows", "live_profile:FACTS", "live_profile:UNCOVERED_ROWS",
        "live_profile:check_proofs", "backups:check_schema_only",
    ),
}  # fmt: skip


#: Examples in a message.
EXAMPLES = 5


def join_examples(examples: Sequence[object], total: int = 0, separator: str = ", ") -> str:
    """Return ``a, b …``: the first of ``total`` examples, with invalid bytes escaped, and whether there are more."""
    shown = ["NULL" if example is None else escape_bytes(example) for example in examples[:EXAMPLES]]
    return separator.join(shown) + (" …" if max(total, len(examples)) > len(shown) else "")


def find_examples(
    db: Readable, sql: str, parameters: Mapping[str, object] = {}
) -> tuple[int, Sequence[tuple[object, ...]]]:
    """Return the number of rows of a query, and the first ones."""
    rows = db.query(f"select q.*, count(*) over () from ({sql}) q limit {EXAMPLES}", parameters)
    return int(str(rows[0][-1])) if rows else 0, [row[:-1] for row in rows]


def escape_bytes(value: object) -> str:
    """Return a value as text, with invalid bytes escaped."""
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class CheckReport(Struct, frozen=True, kw_only=True):
    """The findings of checks, and the exit code of the command."""

    findings: Findings
    status: Exit


class FileSubject(NamedTuple):
    """A file of the configuration, as checks see it."""

    path: Path
    target: str


def list_subjects(app_subject: Subject, scope: Scope) -> Iterator[Subject]:
    app, databases = app_subject.app, app_subject.databases
    profile, users = app.profile, users_database(app) if app.profile.users else ""
    if scope == "app":
        yield app_subject
    elif scope == "database":
        yield from databases.values()
    elif scope == "users":
        yield from [databases[users]] if users in databases else []
    elif scope == "cleanup":
        names = {app.resolve_database(rule) for rule in profile.cleanup}
        if names and all(name in databases and not databases[name].is_excluded for name in names):
            yield databases[min(names)]
    else:
        for entry in getattr(profile, scope):
            name = users if scope in ("known_login", "rebuild") else app.resolve_database(entry)
            names = {name, entry.to} if isinstance(entry, CrossLink) else {name}
            is_excluded = name in databases and databases[name].is_excluded
            if (app.only and names != {app.only}) or is_excluded:
                continue
            for figure in entry.figures if isinstance(entry, Rebuild) else [""]:
                yield structs.replace(app_subject, database=name, entry=entry, figure=figure)


def load_checks(name: SetName) -> Iterator[Check]:
    """Yield the checks of a set in their order: those of the core, and then those of extensions."""
    own = (f"{__package__}.{entry}" for entry in SETS[name])
    for place in chain(own, registry.list_checks(name)):
        try:
            checks = registry.load(place)
        except ExtensionInvalidError as error:
            checks = create_failed(error)
        yield from [checks] if isinstance(checks, Check) else checks


def create_failed(error: ExtensionInvalidError) -> Check:
    """Return a check that fails with an error, as the checks of a module that cannot be imported."""

    def fail(_: object) -> Iterator[Finding]:
        raise error

    return Check(error.code, fail, "app", Needs.NOTHING)


class CheckRun:
    """The findings of checks, and the errors of those that failed; a subclass decides what a failure means for its command."""

    def __init__(self) -> None:
        self.checked = Counter[Scope]()  #: the checks that ended
        self.findings: list[Finding] = []
        self.failures: list[DbctlError] = []
        self._unread = set[tuple[str, str]]()  #: targets and reasons of tables that the role may not read

    def run(self, name: SetName, subject: Subject, *, without: Needs = Needs.NOTHING) -> None:
        """Run the checks of a set, except those with a need."""
        checks = [check for check in load_checks(name) if not check.needs & without]
        for scope, group in groupby(checks, key=lambda check: check.scope):
            scope_checks = [*group]
            for part in self.list_parts(list_subjects(subject, scope), scope):
                self.run_group(scope_checks, part)

    def list_parts(self, parts: Iterator[Subject], scope: Scope) -> Iterator[Subject]:
        """Return the subjects of a scope; a command that reports its progress overrides it."""
        del scope
        return parts

    def run_group(self, checks: Sequence[Check], part: Subject) -> None:
        """Run checks of one subject; one that cannot be opened is one finding, and is not checked further."""
        for check in checks:
            if not (check.needs and part.is_excluded) and self.open(part, check.needs):
                self.run_check(check, part)

    def open(self, part: Subject, needs: Needs) -> bool:
        """Open what a check needs; return whether the subject can be checked."""
        try:
            part.open(needs)
        except DatabaseNotConfiguredError as error:
            part.is_excluded = True
            self.add_unconfigured(part, error)
        except DbctlError as error:
            part.is_excluded = True
            self.add_unreadable(part, error)
        return not (needs and part.is_excluded)

    def run_check(self, check: Check, part: Subject | FileSubject) -> None:
        """Add the findings of a check; its error is a finding with the code of the error."""
        try:
            for problem in check.run(part):
                self.add(part, problem)
        except DoesNotApplyError:
            return
        except DbctlError as error:
            if isinstance(part, Subject):
                if isinstance(error, CorruptError) and error.code in [it.code for it in part.damage]:
                    return  # reported with its location
                part.is_excluded |= check.is_gate
            self.add_failure(part, error)
        else:
            self.checked[check.scope] += 1

    def add(self, part: Subject | FileSubject, problem: Finding | Contradiction) -> None:
        """Add what a check found; a table that the role may not read once, although several checks read it."""
        if isinstance(problem, Finding):
            self.findings.append(problem)
        elif isinstance(part, Subject) and (part.target, problem.reason) not in self._unread:
            if problem.code == UNREADABLE:
                self._unread.add((part.target, problem.reason))
            self.findings.append(locate(part.app, part.target, problem))

    def add_failure(self, part: Subject | FileSubject, error: DbctlError) -> None:
        self.add_error(part.target, error)

    def add_unreadable(self, part: Subject, error: DbctlError) -> None:
        """Add the error of a database that cannot be opened."""
        self.add_error(part.target, error)

    def add_unconfigured(self, part: Subject, error: DatabaseNotConfiguredError) -> None:
        """Add a database without a configured address, unless the app may lack it."""
        if not part.section.optional:
            self.findings.append(Finding.from_error(part.target, error, "warning"))

    def add_error(self, target: str, error: DbctlError, hint: str = "") -> None:
        """Add an error as a finding; ``hint`` replaces the hint of the error."""
        self.failures.append(error)
        finding = Finding.from_error(target, error)
        self.findings.append(structs.replace(finding, hint=hint) if hint else finding)

    def list_findings(self) -> list[Finding]:
        """Return each finding once: several checks may fail for the same reason."""
        return list(dict.fromkeys(self.findings))

    @property
    def status(self) -> Exit:
        """The exit code of failed checks, otherwise that of the first error."""
        failed = {error.code: error.exit_status for error in self.failures}
        errors = [finding for finding in self.findings if finding.severity == "error"]
        statuses = [failed.get(finding.code, Exit.CHECK_FAILED) for finding in errors]
        return Exit.CHECK_FAILED if Exit.CHECK_FAILED in statuses else next(iter(statuses), Exit.OK)


def locate(app: App, target: str, problem: Contradiction) -> Finding:
    """Return a contradiction as a finding, with its place in the file of the profile."""
    profile = app.configured.profile
    path, located = loader.path_of(profile), problem.locate(app)
    message = f"{located.reason} ({path.name}, line {located.line}, {located.key})"
    finding = Finding(target, problem.severity, problem.code, message, problem.remedy)
    if loader.find_profile(profile):
        return finding
    return structs.replace(finding, file=str(path), line=located.line)
