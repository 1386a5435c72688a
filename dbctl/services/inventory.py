"""Which apps are configured, what dbctl understood of them, and whether files and live databases agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dbctl import config, toml
from dbctl.engines.base import Readable, Table
from dbctl.errors import DbctlError, FileMissingError
from dbctl.model import Finding, Findings, Page, Row, Value
from dbctl.profiles import loader, search_model
from dbctl.profiles.model import Name, Profile, Users
from dbctl.services.apps import App
from dbctl.services.live import find_column


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
    app: str | None = None  #: the configured app it was shown for


class Named(Value, frozen=True, kw_only=True):
    """A table or column that a profile names."""

    key: Sequence[str | int]  #: where in the profile
    database: str
    table: str
    column: Name | None = None  #: None: the table itself
    optional: bool = False


def list_apps(selection: config.Selection) -> Page[AppListed]:
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
    return Page(items=items, total=len(items))


def show_profile(name: str, app: config.App | None = None) -> ProfileShown:
    """Return what dbctl understood of a profile, for one configured app or for none."""
    profile = loader.load(name)
    abilities = {
        "users": profile.users,
        "passwords": profile.users and profile.users.password,
        "lockout": profile.users and profile.users.lockout,
        "roles": profile.roles or (profile.users and profile.users.role),
        "permissions": profile.roles and profile.roles.permissions,
        "settings": any(told.scope == "system" for told in profile.settings),
        "settings of users": any(told.scope == "user" for told in profile.settings),
        "migrations": any(told.migrations for told in profile.databases.values()),
        "search": profile.search,
        "audit": profile.audit,
    }
    return ProfileShown(
        name=profile.name,
        title=profile.title,
        file=str(loader.path_of(name)),
        time=profile.time,
        boolean=profile.boolean,
        databases=_databases(profile, app.databases if app else {}),
        abilities=[word for word, told in abilities.items() if told],
        searches=[told.name for told in profile.search],
        app=app.name if app else None,
    )


def check_files(selection: config.Selection, file: str) -> Findings:
    """Check a profile file, or the configuration and every profile it names; every mistake with its line and key."""
    findings: list[Finding] = []
    if file:
        findings += _profile_mistakes(file)
        return Findings(checked=1, findings=findings)
    path = config.path(selection)
    try:
        configuration = config.parse(path)
    except toml.TomlError as error:
        return Findings(checked=1, findings=[_mistake(str(path), one) for one in error.mistakes])
    for app in configuration.apps.values():
        try:
            mistakes = _profile_mistakes(app.profile)
        except DbctlError as error:
            mistakes = [_failure(app.name, error)]
        findings += mistakes
        if not mistakes:
            findings += _address_mistakes(app)
    return Findings(checked=1 + len(configuration.apps), findings=findings)


def check_live(app: App) -> Findings:
    """Check that every table and column which the profile names is in the live databases."""
    findings: list[Finding] = []
    names = list(_names(app.profile))
    text = _text_of(app.configured.profile)
    for database, told in app.profile.databases.items():
        if database not in app.configured.databases and (told.optional or len(app.profile.databases) > 1):
            if not told.optional:
                findings.append(_unset(app, database))
            continue
        try:
            live = app.reader(database)
        except DbctlError as error:
            findings.append(_failure(app.target(database), error))
            continue
        findings += _lacking(app, live, [one for one in names if one.database == database], text)
        findings += _uncovered(app, live, database)
    return Findings(checked=len(names), findings=findings)


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
        profile = loader.read(path)
    except toml.TomlError as error:
        return [_mistake(str(path), one) for one in error.mistakes]
    text = _text_of(name)
    return [
        _mistake(str(path), toml.Mistake(toml.line_of(text, key), toml.dotted(key), reason))
        for key, reason in _inconsistent(profile)
    ]


def _inconsistent(profile: Profile) -> Iterator[tuple[Sequence[str | int], str]]:
    """Yield what the form of a profile allows and its sense does not."""
    if not profile.databases:
        yield ("databases",), "it names no database"
    for name in {one.database for one in _names(profile)} - set(profile.databases):
        yield ("databases",), f"{name} is named elsewhere and not described here"
    if profile.users:
        yield from _inconsistent_users(profile, profile.users)
    if profile.roles and "name" not in profile.roles.fields:
        yield ("roles", "fields"), "name is missing"
    for at, search in enumerate(profile.search):
        for place, reason in search_model.mistakes(search):
            yield ("search", at, *place), reason
    for at, told in enumerate(profile.settings):
        if "value" not in told.fields:
            yield ("settings", at, "fields"), "value is missing"
        if not told.shape and told.key is None:
            yield ("settings", at), "key is missing, and no shape says it"
        if told.scope == "user" and not told.user:
            yield ("settings", at), "scope is user, and no column says whose"


def _inconsistent_users(profile: Profile, users: Users) -> Iterator[tuple[Sequence[str | int], str]]:
    for field in users.login:
        if field not in users.fields:
            yield ("users", "login"), f"{field} is none of users.fields"
    if users.admin and not users.role:
        yield ("users", "admin"), "there is no users.role"
    if users.role and not users.role.table and profile.roles:
        yield ("users", "role"), "there are [roles], but users.role names no table"


def _names(profile: Profile) -> Iterator[Named]:
    """Yield every table and column that a profile names, with the place where it does."""
    main = next((name for name, told in profile.databases.items() if told.mode == "read-write"), "")
    for name, told in profile.databases.items():
        for table in told.needs:
            yield Named(key=("databases", name, "needs"), database=name, table=table)
    if profile.users:
        yield from _names_of_users(profile.users, profile.users.database or main)
    yield from _names_of_roles(profile, main)
    for at, setting in enumerate(profile.settings):
        here = setting.database or main
        yield from _table(("settings", at), here, setting.table, dict(setting.fields))
        if setting.user:
            yield from _table(("settings", at), here, setting.table, {"user": setting.user})
    for at, search in enumerate(profile.search):
        columns = {name: name for name in (search.id, *search.words, *search.show)}
        yield from _table(("search", at), search.database, search.table, columns)
    if profile.audit:
        told_audit = profile.audit
        yield from _table(("audit",), told_audit.database or main, told_audit.table, dict(told_audit.fields))


def _names_of_users(users: Users, here: str) -> Iterator[Named]:
    yield from _table(("users",), here, users.table, {"id": users.id.column, **users.fields})
    if users.password:
        yield from _table(("users", "password"), here, users.table, {"column": users.password.column})
    if users.role:
        yield from _table(("users", "role"), here, users.table, {"column": users.role.column})
        if users.role.table:
            yield from _table(
                ("users", "role"),
                here,
                users.role.table,
                {"key": users.role.key, "name": users.role.name},
            )
    for at, ended in enumerate(users.signed_in):
        key = ("users", "signed_in", at)
        columns: dict[str, Name] = {"user": ended.user, "expires_at": ended.expires_at}
        yield from _table(key, here, ended.table, columns | {name: name for name in ended.end})
    if users.lockout:
        out = users.lockout
        columns = {"login": out.login, **{name: name for name in out.failed}}
        yield from _table(
            ("users", "lockout"),
            here,
            out.table,
            columns | ({"address": out.address} if out.address else {}),
        )
    if users.statistics:
        told_row = users.statistics
        columns = {"user": told_row.user, **{name: name for name in told_row.columns}}
        yield from _table(("users", "statistics"), here, told_row.table, columns)


def _names_of_roles(profile: Profile, main: str) -> Iterator[Named]:
    roles = profile.roles
    if roles is None:
        return
    here = (profile.users.database if profile.users else "") or main
    yield from _table(("roles",), here, roles.table, {"key": roles.key, **roles.fields})
    told = roles.permissions
    if told:
        columns: dict[str, Name] = {"key": told.key, "name": told.name}
        optional: dict[str, Name] = {
            "description": told.description,
            "resource": told.resource,
            "action": told.action,
        }
        yield from _table(("roles", "permissions"), here, told.table, columns | optional)
        link = told.link
        yield from _table(
            ("roles", "permissions", "link"),
            here,
            link.table,
            {"role": link.role, "permission": link.permission},
        )


def _table(
    key: Sequence[str | int], database: str, table: str, columns: Mapping[str, Name]
) -> Iterator[Named]:
    yield Named(key=(*key, "table"), database=database, table=table)
    for word, column in columns.items():
        optional = isinstance(column, list) or column.endswith("?")
        yield Named(key=(*key, word), database=database, table=table, column=column, optional=optional)


def _lacking(app: App, live: Readable, names: Sequence[Named], text: str) -> Iterator[Finding]:
    tables: Mapping[str, Table] = live.tables()
    for one in names:
        there = one.table in tables
        if one.column is None and not there and not one.optional:
            yield _lacks(app, one, f"table {one.table}", text)
        elif (
            one.column is not None
            and there
            and not one.optional
            and not find_column(tables[one.table], one.column)
        ):
            yield _lacks(app, one, f"column {one.table}.{one.column}", text)


def _lacks(app: App, one: Named, what: str, text: str) -> Finding:
    place = f"{loader.path_of(app.configured.profile).name}, line {toml.line_of(text, one.key)}, {toml.dotted(one.key)}"
    return Finding(
        target=app.target(one.database),
        severity="error",
        code="schema-lacks",
        message=f"there is no {what} ({place})",
        hint="migrations may be pending (dbctl migrate status); a name that may be missing ends in ?",
    )


def _uncovered(app: App, live: Readable, database: str) -> Iterator[Finding]:
    """Yield the columns without which no user could be added, and which nothing in the profile covers."""
    users = app.profile.users
    if users is None or (users.database or app.main()) != database or users.table not in live.tables():
        return
    covered = {users.id.column, *users.new}
    for name in users.fields.values():
        covered |= set([name] if isinstance(name, str) else name)
    covered |= {told.column for told in (users.password, users.role) if told}
    for column in live.tables()[users.table].columns.values():
        if column.required and column.name not in {name.removesuffix("?") for name in covered}:
            yield Finding(
                target=app.target(database),
                severity="error",
                code="column-uncovered",
                message=f"{users.table}.{column.name} wants a value, and the profile has none for it",
                hint="Add it to [users.fields] or, with a constant, to [users.new].",
            )


def _address_mistakes(app: config.App) -> Iterator[Finding]:
    profile = loader.load(app.profile)
    for name in app.databases:
        if name not in profile.databases:
            yield Finding(
                target=app.name,
                severity="error",
                code="database-unknown",
                message=f"{profile.name} has no database {name}",
                hint=f"Its databases: {', '.join(profile.databases)}.",
            )


def _unset(app: App, database: str) -> Finding:
    return Finding(
        target=app.target(database),
        severity="warning",
        code="database-unset",
        message="the configuration does not say where it is",
        hint=f"Add it under [apps.{app.name}.databases].",
    )


def _mistake(file: str, one: toml.Mistake) -> Finding:
    return Finding(
        target=file, severity="error", code="mistake", message=f"line {one.line}, {one.key}: {one.reason}"
    )


def _failure(target: str, error: DbctlError) -> Finding:
    return Finding(target=target, severity="error", code=error.code, message=str(error), hint=error.hint)


def _text_of(name: str) -> str:
    path = loader.path_of(name)
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FileMissingError(what="profile", path=path) from error
