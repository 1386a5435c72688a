"""List configured apps, show profiles and where they were installed from, and check files and live databases against them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from dbctl.config import loader as config
from dbctl.config import model
from dbctl.config.sections import Selection, check_replaced_defaults, locate_problems, read_sections
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import FileMissingError
from dbctl.errors.usage import ProfileInvalidError, ProfileMissingError
from dbctl.files import toml
from dbctl.model import Finding, Findings, Page, Row, Struct
from dbctl.profiles import loader
from dbctl.profiles.model.profile import Profile
from dbctl.services.app.results import DatabaseResults
from dbctl.services.app.session import read_profile
from dbctl.services.backup.retention.rules import rules_by_name
from dbctl.services.checks.profile import find_file_problems
from dbctl.services.checks.user_values import Problem
from dbctl.url import resolve_engine


class Origin(Struct, frozen=True, kw_only=True):
    """The record of an installed profile."""

    source: str  #: the address, or the absolute path, from which it was installed
    sha256: str  #: of its file, in hexadecimal digits
    installed_at: datetime


def record_path(profile: Path) -> Path:
    """Return the file with the record of a profile: ``shop.origin.json`` of ``shop.toml``."""
    return profile.with_name(f"{profile.stem}.origin.json")


def read_record(profile: Path) -> Origin | None:
    """Return the record of a profile; None: it was not installed, or its record cannot be read."""
    try:
        return msgspec.json.decode(record_path(profile).read_bytes(), type=Origin)
    except (OSError, msgspec.MsgspecError):
        return None


def compute_digest(data: bytes) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


class DatabaseListed(Struct, frozen=True, kw_only=True):
    """One database of an app."""

    name: str
    url: str | None  #: without a password; None if it is not configured
    mode: str
    engines: Sequence[str]
    optional: bool


class AppListed(Struct, frozen=True, kw_only=True):
    """One configured app."""

    name: str
    profile: str
    #: the variant of the profile that the live schema has; None: the profile as written
    variant: str | None = None
    protected: bool | None = None
    databases: Sequence[DatabaseListed] = ()
    file: str  #: that configures it
    problem: str = ""  #: why it cannot be read; then only its name, profile and file are known

    def summary(self) -> Row:
        variant = {"variant": self.variant} if self.variant else {}
        row = {"name": self.name, "profile": self.profile, **variant, "protected": self.protected}
        databases = [database.name for database in self.databases if database.url]
        return {**row, "databases": databases, **({"problem": self.problem} if self.problem else {})}


class ProfileListed(Struct, frozen=True, kw_only=True):
    """One profile that commands find by its name."""

    name: str
    title: str | None  #: None: the file has an error
    origin: str  #: ``built-in``, the configuration directory: ``user`` or ``system``, or ``extension``
    file: str
    sha256: str | None = None  #: of the file; None: it cannot be read
    source: str | None = None  #: from where it was installed; None: it was not
    features: Sequence[str] = ()
    problem: str = ""  #: why commands do not use the profile

    def summary(self) -> Row:
        row = {"name": self.name, "title": self.title, "origin": self.origin, "file": self.file}
        installed = {"source": self.source, "sha256": self.sha256} if self.source else {}
        return row | installed | ({"problem": self.problem} if self.problem else {})


class ProfileShown(Struct, frozen=True, kw_only=True):
    """A profile, as dbctl loaded it."""

    name: str
    title: str
    file: str
    time: str
    boolean: str
    databases: Sequence[DatabaseListed]
    features: Sequence[str]
    searches: Sequence[str]
    foreign_backups: Sequence[str]  #: names of backup files that the app's scripts create
    keep: Mapping[str, int | str] = {}  #: the default retention
    #: tables whose rows ``schema_only`` of its backups could leave out
    schema_only: Sequence[str] = ()
    variants: Sequence[str] = ()  #: versions of the app with other schemas
    app: str | None = None  #: the configured app
    variant: str | None = None  #: the variant that its live schema has; None: the profile as written


def list_apps(selection: Selection) -> DatabaseResults[AppListed]:
    """Return every configured app.

    Raises:
        DbctlError: the configuration has an error, or the only app. The error of one of several apps is part of the result.
    """
    items, failed, sections = list[AppListed](), list[DbctlError](), config.load_sections(selection)
    for name, section in sections.apps.items():
        file = str(sections.origins["apps", name].path)
        try:
            app = config.load(selection, only=name).apps[name]
            profile, variant = read_profile(app)
        except DbctlError as error:
            if len(sections.apps) == 1:
                raise
            failed.append(error)
            items.append(AppListed(name=name, profile=section.profile, file=file, problem=str(error)))
            continue
        items.append(
            AppListed(
                name=app.name,
                profile=profile.name,
                variant=variant,
                protected=app.protected,
                databases=_list_databases(profile, app.databases),
                file=file,
            )
        )
    page = Page(items=items, total=len(items), column_names=AppListed.__struct_fields__)
    return DatabaseResults(page=page, failed=failed)


def list_profiles() -> Page[ProfileListed]:
    """Return every profile that commands find by its name, with its origin."""
    items: list[ProfileListed] = []
    for available in loader.list_available():
        title, features, problem = None, list[str](), ""
        try:
            profile = loader.load(str(available.path))
        except DbctlError as error:
            problem = str(error)
        else:
            title, features = profile.title, profile.list_features()
        record, digest = read_record(available.path), _compute_digest(available.path)
        if record and record.sha256 != digest:
            problem = problem or "it was changed since its installation"
        if any(item.name == available.name for item in items):
            problem = problem or "an earlier profile of the list has the same name"
        items.append(
            ProfileListed(
                name=available.name,
                title=title,
                origin=available.origin,
                file=str(available.path),
                sha256=digest,
                source=record.source if record else None,
                features=features,
                problem=problem,
            )
        )
    return Page(items=items, total=len(items), column_names=ProfileListed.__struct_fields__)


def _compute_digest(path: Path) -> str | None:
    try:
        return compute_digest(path.read_bytes())
    except OSError:
        return None


def show_profile(name: str, app: model.App | None = None) -> ProfileShown:
    """Return a profile as dbctl loaded it, optionally with the databases and the variant of a configured app."""
    profile, variant = read_profile(app) if app else (loader.load(name), None)
    return ProfileShown(
        name=profile.name,
        title=profile.title,
        file=str(loader.path_of(name)),
        time=profile.time,
        boolean=profile.boolean,
        databases=_list_databases(profile, app.databases if app else {}),
        features=profile.list_features(),
        searches=list(dict.fromkeys(search.name for search in profile.search)),
        foreign_backups=[files.name for files in profile.backup.foreign],
        keep=rules_by_name(profile.backup.keep),
        schema_only=profile.list_schema_only(),
        variants=[entry.name for entry in profile.variants],
        app=app.name if app else None,
        variant=variant,
    )


def check_files(selection: Selection, file: str) -> Findings:
    """Check a profile file, or the configuration and all its profiles; findings have line and key."""
    if file:
        return Findings(checked=1, findings=_check_profile_file(file))
    path = config.config_path(selection)
    try:
        sections = read_sections(path)
        configuration = config.resolve(sections)
    except toml.TomlError as error:
        return Findings(checked=1, findings=[_problem_finding(path, problem) for problem in error.problems])
    findings = [_problem_finding(path, problem) for problem in check_replaced_defaults(sections)]
    for name in dict.fromkeys(app.profile for app in configuration.apps.values()):
        with suppress(ProfileMissingError, FileMissingError):  # reported below, for each app that names it
            findings += _check_profile_file(name)
    for app in configuration.apps.values():
        problems = [(("apps", app.name, *key), reason) for key, reason in _check_app(app)]
        located = locate_problems(sections.origins["apps", app.name], problems)
        findings += [_problem_finding(path, problem) for problem in located]
    return Findings(checked=1 + len(configuration.apps), findings=list(dict.fromkeys(findings)))


def _list_databases(profile: Profile, urls: Mapping[str, object]) -> list[DatabaseListed]:
    return [
        DatabaseListed(
            name=name,
            url=str(urls[name]) if name in urls else None,
            mode=section.mode,
            engines=section.engines,
            optional=section.optional,
        )
        for name, section in profile.databases.items()
    ]


def _check_profile_file(name: str) -> list[Finding]:
    path = loader.path_of(name)
    return [_problem_finding(path, problem) for problem in find_file_problems(path)]


def _check_app(app: model.App) -> Iterator[Problem]:
    try:
        profile = loader.load(app.profile)
    except ProfileInvalidError:  # reported with its own findings
        return
    except DbctlError as error:
        yield ("profile",), f"{error}; {error.hint[:1].lower()}{error.hint[1:]}"
        return
    known = ", ".join(profile.databases)
    for name, url in app.databases.items():
        is_unnamed = list(app.databases) == ["main"] and bool(profile.databases)
        section = profile.databases.get(
            name if name in profile.databases or not is_unnamed else profile.main_database
        )
        if section is None:
            yield ("databases", name), f"{profile.name} has no such database; known: {known}"
        elif resolve_engine(url, section.engines).engine not in section.engines:
            engines = " or ".join(section.engines)
            yield ("databases", name), f"{profile.name} uses {engines} for it, not {url.engine}"
    limits = app.backup.databases if app.backup else ()
    for key in [("migrations", name) for name in app.migrations] + [
        ("backup", "databases", name) for name in limits
    ]:
        if key[-1] not in profile.databases:
            yield key, f"{profile.name} has no such database; known: {known}"


def _problem_finding(file: Path, problem: toml.Problem) -> Finding:
    path = str(problem.file or file)
    message = f"line {problem.line}, {problem.key}: {problem.reason}"
    return Finding(path, "error", "invalid-entry", message, file=path, line=problem.line)
