"""Which apps are configured, what dbctl understood of them, and whether files and live databases agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dbctl.config import loader as config
from dbctl.config import model
from dbctl.errors import (
    DatabaseUnsetError,
    DbctlError,
    FileMissingError,
    MigrationsMissingError,
    ProfileInvalidError,
    ProfileMissingError,
)
from dbctl.files import toml
from dbctl.model import Finding, Findings, Page, Row, Severity, Value
from dbctl.profiles import loader
from dbctl.profiles.model import Profile
from dbctl.services.app import App
from dbctl.services.backup import prune
from dbctl.services.profiles import consistency, live_check, sql_check
from dbctl.services.profiles.consistency import Complaint
from dbctl.url import meant


class DatabaseListed(Value, frozen=True, kw_only=True):
    """One database of an app."""

    name: str
    url: str | None  #: without a password; None where it is not configured
    mode: str
    engines: Sequence[str]
    optional: bool


class AppListed(Value, frozen=True, kw_only=True):
    """One configured app."""

    name: str
    profile: str
    protected: bool
    databases: Sequence[DatabaseListed]

    def brief(self) -> Row:
        told = {"name": self.name, "profile": self.profile, "protected": self.protected}
        return told | {"databases": [one.name for one in self.databases if one.url]}


class ProfileShown(Value, frozen=True, kw_only=True):
    """What dbctl understood of a profile."""

    name: str
    title: str
    file: str
    time: str
    boolean: str
    databases: Sequence[DatabaseListed]
    abilities: Sequence[str]
    searches: Sequence[str]
    foreign_backups: Sequence[str]  #: how files are called that the app's own scripts leave as backups
    keep: Mapping[str, int | str] = {}  #: which backups stay where the configuration does not say
    app: str | None = None  #: the configured app it was shown for


def list_apps(selection: model.Selection) -> Page[AppListed]:
    """Return every configured app."""
    items = []
    for app in config.load(selection).apps.values():
        profile = loader.load(app.profile)
        items.append(
            AppListed(
                name=app.name,
                profile=profile.name,
                protected=app.protected,
                databases=_databases(profile, app.databases),
            )
        )
    return Page(items=items, total=len(items), names=AppListed.__struct_fields__)


def show_profile(name: str, app: model.App | None = None) -> ProfileShown:
    """Return what dbctl understood of a profile, for one configured app or for none."""
    profile = loader.load(name)
    return ProfileShown(
        name=profile.name,
        title=profile.title,
        file=str(loader.path_of(name)),
        time=profile.time,
        boolean=profile.boolean,
        databases=_databases(profile, app.databases if app else {}),
        abilities=profile.abilities(),
        searches=list(dict.fromkeys(search.name for search in profile.search)),
        foreign_backups=[one.name for one in profile.backup.foreign],
        keep=prune.told(profile.backup.keep),
        app=app.name if app else None,
    )


def check_files(selection: model.Selection, file: str) -> Findings:
    """Check a profile file, or the configuration and every profile it names; every mistake with its line and key."""
    if file:
        return Findings(checked=1, findings=_profile_mistakes(file))
    path = config.path(selection)
    try:
        configuration = config.parse(path)
    except toml.TomlError as error:
        return Findings(checked=1, findings=[_mistake(path, one) for one in error.mistakes])
    text = path.read_text(encoding="utf-8-sig")
    findings: list[Finding] = []
    for name in dict.fromkeys(app.profile for app in configuration.apps.values()):
        with suppress(ProfileMissingError, FileMissingError):  # told below, at each app that names it
            findings += _profile_mistakes(name)
    for app in configuration.apps.values():
        for key, reason in _app_mistakes(app):
            findings.append(_mistake(path, toml.mistake(text, ("apps", app.name, *key), reason)))
    return Findings(checked=1 + len(configuration.apps), findings=findings)


def check_live(app: App) -> Findings:
    """Check that every table and column which the profile names is in the live databases."""
    findings: list[Finding] = []
    place = loader.path_of(app.configured.profile)
    text = place.read_text(encoding="utf-8-sig")
    for database, told in app.profile.databases.items():
        if app.only not in ("", database):
            continue
        target = app.target(database)
        folder = app.configured.migrations.get(database)
        if folder is not None and not folder.is_dir():
            findings.append(_failure(target, MigrationsMissingError(target=target, path=folder)))
        try:
            live = app.reader(database)
        except DatabaseUnsetError as error:
            if not told.optional:
                findings.append(_failure(target, error, "warning"))
            continue
        except DbctlError as error:
            findings.append(_failure(target, error))
            continue
        checks: Mapping[str, tuple[Severity, Iterable[Complaint], str]] = {
            "schema-lacks": (
                "error",
                consistency.lacking(app.profile, database, live, app.main()),
                "Migrations may be pending (dbctl migrate status). A name that may be missing ends in ?",
            ),
            "column-uncovered": (
                "error",
                consistency.uncovered(app.profile, database, live, app.main()),
                "Add it to [users.fields] or, with a constant, to [users.new].",
            ),
            "search-key-idle": (
                "warning",
                consistency.unreachable(app.profile, database, live),
                "Say with `missing` why a deployment may not have it.",
            ),
            "sql-fails": (
                "error",
                sql_check.failing(app, database, live),
                "The statement was only prepared; nothing was run.",
            ),
            "key-not-unique": (
                "error",
                sql_check.unkeyed(app, database, live),
                "Without one, rows that are there already cannot be told from new ones.",
            ),
            "shape-unknown": (
                "error",
                live_check.unshaped(app.profile, database, live, app.main()),
                "Give it a further shape, with the columns that this deployment has.",
            ),
            "report-idle": (
                "warning",
                sql_check.idle(app, database, live),
                "A deployment without these cannot run it.",
            ),
        }
        for code, (severity, complaints, hint) in checks.items():
            for key, reason in complaints:
                one = toml.mistake(text, key, reason)
                message = f"{one.reason} ({place.name}, line {one.line}, {one.key})"
                findings.append(
                    Finding(target=target, severity=severity, code=code, message=message, hint=hint)
                )
    checked = sum(one.database in app.used for one in consistency.names(app.profile, app.main()))
    return Findings(checked=checked, findings=findings)


def _databases(profile: Profile, urls: Mapping[str, object]) -> list[DatabaseListed]:
    return [
        DatabaseListed(
            name=name,
            url=str(urls[name]) if name in urls else None,
            mode=told.mode,
            engines=told.engines,
            optional=told.optional,
        )
        for name, told in profile.databases.items()
    ]


def _profile_mistakes(name: str) -> list[Finding]:
    path = loader.path_of(name)
    try:
        profile, text = loader.read_with_text(path)
    except toml.TomlError as error:
        return [_mistake(path, one) for one in error.mistakes]
    found = [toml.mistake(text, key, reason) for key, reason in consistency.inconsistent(profile)]
    return [_mistake(path, one) for one in sorted(found, key=lambda one: one.line)]


def _app_mistakes(app: model.App) -> Iterator[Complaint]:
    try:
        profile = loader.load(app.profile)
    except ProfileInvalidError:  # its own findings tell
        return
    except DbctlError as error:
        yield ("profile",), f"{error}; {error.hint[:1].lower()}{error.hint[1:]}"
        return
    known = ", ".join(profile.databases)
    for name, url in app.databases.items():
        if name not in profile.databases:
            yield ("databases", name), f"{profile.name} has no such database; known: {known}"
        elif meant(url, profile.databases[name].engines).engine not in profile.databases[name].engines:
            engines = " or ".join(profile.databases[name].engines)
            yield ("databases", name), f"{profile.name} keeps it in {engines}, not in {url.engine}"
    for name in app.migrations:
        if name not in profile.databases:
            yield ("migrations", name), f"{profile.name} has no such database; known: {known}"


def _mistake(file: Path, one: toml.Mistake) -> Finding:
    return Finding(
        target=str(file),
        severity="error",
        code="mistake",
        message=f"line {one.line}, {one.key}: {one.reason}",
    )


def _failure(target: str, error: DbctlError, severity: Severity = "error") -> Finding:
    return Finding(target=target, severity=severity, code=error.code, message=str(error), hint=error.hint)
