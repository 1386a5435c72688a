"""Names of a deployment that begin with a prefix, for shell completion: of apps, users, settings, backups and others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from dbctl.config import loader as config
from dbctl.config.sections import Selection
from dbctl.model import KeyText, Struct
from dbctl.services.app.app import App

LIMIT = 100  #: names that one request returns
#: Seconds to wait for a lock or a server.
TIMEOUT = 0.2


class NameRequest(Struct, frozen=True, kw_only=True):
    """What the command line contains before the cursor."""

    selection: Selection
    prefix: str = ""
    database: str = ""  #: of ``--db``
    words: Sequence[str] = ()  #: all words before the cursor
    user: str = ""  #: the login of ``--user``, whose settings are listed
    user_id: str = ""  #: its id, of ``--id``
    repository: str = ""  #: the address of ``--repository``
    migrations: str = ""  #: the folder of ``--migrations``


def list_names(kinds: str, request: NameRequest) -> list[str]:
    """Return the names of the ``kinds``, separated by commas, that begin with the prefix, at most ``LIMIT``.

    Case matters if a name begins with the prefix exactly. The last name is always included: the prefix that all names have
    in common is the prefix that the first and the last one have in common. Databases are only read, and without leaving a trace.
    """
    selected = kinds.split(",")
    names = list(
        chain.from_iterable(
            _OF_CONFIGURATION[kind](request) for kind in selected if kind in _OF_CONFIGURATION
        )
    )
    if of_app := [_OF_APP[kind] for kind in selected if kind in _OF_APP]:
        from dbctl.services.app.session import open_app

        with open_app(request.selection, timeout=TIMEOUT, only=request.database, traceless=True) as app:
            names += chain.from_iterable(list_kind(app, request) for list_kind in of_app)
    folded = request.prefix.casefold()
    similar = sorted({name for name in names if name.casefold().startswith(folded)})
    names = [name for name in similar if name.startswith(request.prefix)] or similar
    return names if len(names) <= LIMIT else [*names[: LIMIT - 1], names[-1]]


def _list_apps(request: NameRequest) -> Iterable[str]:
    apps = config.load(request.selection).apps
    fleet = apps.get(request.prefix.partition("/")[0])
    if "/" not in request.prefix or fleet is None or not fleet.is_fleet:
        return apps
    from dbctl.config.resolver import FleetSelection
    from dbctl.services.fleet.instances import list_instances

    instances = list_instances([FleetSelection(fleet)], timeout=TIMEOUT)
    return [f"{fleet.name}/{instance.name}" for instance in instances]


def _list_profiles(_request: NameRequest) -> Iterable[str]:
    from dbctl.profiles import loader

    return [profile.name for profile in loader.list_available()]


def _list_databases(app: App, _request: NameRequest) -> Iterable[str]:
    return app.configured.databases


def _list_logins(app: App, request: NameRequest) -> Iterable[str]:
    from dbctl.services.app.user_table import open_users
    from dbctl.services.users.queries import list_logins

    return list_logins(open_users(app), request.prefix, LIMIT)


def _list_user_fields(app: App, _request: NameRequest) -> Iterable[str]:
    from dbctl.services.app.user_table import open_users

    return [f"{field}=" for field in open_users(app).field_names]


def _list_roles(app: App, _request: NameRequest) -> Iterable[str]:
    from dbctl.services.app.user_table import users_database
    from dbctl.services.roles import queries

    return [role.name for role in queries.read_roles(app, app.reader(users_database(app)))]


def _list_permissions(app: App, _request: NameRequest) -> Iterable[str]:
    from dbctl.services.app.user_table import users_database
    from dbctl.services.roles import queries

    return queries.list_permission_names(app, app.reader(users_database(app)))


def _list_settings(app: App, request: NameRequest) -> Iterable[str]:
    from dbctl.services.settings import queries

    login = request.user or (KeyText(request.user_id) if request.user_id else "")
    return queries.open_for_login(app, login).list_keys(request.prefix)


def _list_categories(app: App, _request: NameRequest) -> Iterable[str]:
    from dbctl.services.settings import queries

    return {setting.category or "" for setting in queries.open_for_login(app, "").read()} - {""}


def _list_tables(app: App, _request: NameRequest) -> Iterable[str]:
    return app.reader(app.only or app.main_database, allow_empty=True).tables()


def _list_columns(app: App, request: NameRequest) -> Iterable[str]:
    tables = app.reader(app.only or app.main_database).tables()
    return next((tables[word].columns for word in request.words if word in tables), ())


def _list_backups(app: App, request: NameRequest) -> Iterable[str]:
    from dbctl.services.backup.repository import LATEST, Repository

    return [LATEST, *Repository(app, request.repository).complete()]


def _list_migrations(app: App, request: NameRequest) -> Iterable[str]:
    from dbctl.services.migrations.status import find_targets

    folder = Path(request.migrations) if request.migrations else None
    targets = find_targets(app, app.only, folder, may_lack_folder=True, may_connect=False)
    # The database decides its variant, but completion does not open it.
    folders = (folder for target in targets for folder in (target.folder, *target.variant_folders.values()))
    return dict.fromkeys(chain.from_iterable(folder.files for folder in folders))


def _list_variants(app: App, _request: NameRequest) -> Iterable[str]:
    sections = [database.migrations for database in app.profile.databases.values() if database.migrations]
    return [variant.name for section in sections for variant in section.variant]


#: The kinds of names that are known without opening an app.
_OF_CONFIGURATION: Mapping[str, Callable[[NameRequest], Iterable[str]]] = {
    "apps": _list_apps,
    "profiles": _list_profiles,
}
_OF_APP: Mapping[str, Callable[[App, NameRequest], Iterable[str]]] = {
    "backups": _list_backups,
    "categories": _list_categories,
    "columns": _list_columns,
    "columns=": lambda app, request: [f"{column}=" for column in _list_columns(app, request)],
    "databases": _list_databases,
    "fields=": _list_user_fields,
    "logins": _list_logins,
    "migrations": _list_migrations,
    "permissions": _list_permissions,
    "reports": lambda app, _request: [report.name for report in app.profile.report],
    "roles": _list_roles,
    "rules": lambda app, _request: [rule.name for rule in app.profile.cleanup],
    "searches": lambda app, _request: [search.name for search in app.profile.search],
    "settings": _list_settings,
    "tables": _list_tables,
    "variants": _list_variants,
}
KINDS = frozenset([*_OF_CONFIGURATION, *_OF_APP])
