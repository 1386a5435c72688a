"""Check that a profile is consistent, and that a live database has the tables and columns that it names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from dbctl.engines.contract import Readable
from dbctl.errors import ProfileInvalidError, SchemaMismatchError
from dbctl.files import toml
from dbctl.profiles import (
    apply_variant,
    find_prefix_problem,
    list_database_references,
    list_schema_references,
    loader,
    locate_key,
)
from dbctl.profiles.model import (
    ColumnNames,
    Migrations,
    Password,
    Profile,
    Roles,
    Settings,
    Users,
    cleanup,
    list_role_names,
    semantic,
    validate_user_role,
)
from dbctl.profiles.model import rebuild as rebuild_model
from dbctl.profiles.model import search as search_model
from dbctl.profiles.model import sessions as sessions_model
from dbctl.services.app import find_column, ledger_detection
from dbctl.services.profiles.new_users import find_uncovered_companions, find_value_problems
from dbctl.services.search import QueryCompiler
from dbctl.services.settings import parse_schema

#: A key in a profile, and the problem with its value.
Problem: TypeAlias = tuple[Sequence[str | int], str]
#: The key of the prefix of new hashes.
PREFIX_KEY = ("users", "password", "writes")


# Consistency of the profile ----------------------------------------------------------------------------------------


def refuse_inconsistent_profile(name: str) -> None:
    """Check the profile of this name or path.

    Raises:
        ProfileInvalidError: the first problem that ``find_file_problems`` returns.
    """
    path = loader.path_of(name)
    for problem in find_file_problems(path)[:1]:
        raise ProfileInvalidError(file=path, line=problem.line, key=problem.key, reason=problem.reason)


def find_file_problems(path: Path) -> list[toml.Problem]:
    """Return the errors in a profile file, also those of its variants, in the order of lines."""
    try:
        _, text = loader.read_with_text(path)
    except toml.TomlError as error:
        return list(error.problems)
    return _find_problems(text)


@lru_cache(maxsize=16)  # the instances of a fleet have the same profile
def _find_problems(text: str) -> list[toml.Problem]:
    """Return the errors in a profile that its schema does not detect."""
    profile = loader.parse(text)
    inconsistencies = list(find_inconsistencies(profile))
    problems = [toml.create_problem(text, key, reason) for key, reason in inconsistencies]
    for index, variant in enumerate(profile.variants):
        for key, reason in find_inconsistencies(apply_variant(profile, variant)):
            if (key, reason) not in inconsistencies:
                located = locate_key(index, variant, key)
                problems.append(toml.create_problem(text, located, f"{reason} (variant {variant.name})"))
    return sorted(problems, key=lambda problem: problem.line)


def find_inconsistencies(profile: Profile) -> Iterator[Problem]:
    """Yield the errors in a profile that its schema does not detect."""
    if not profile.databases:
        yield ("databases",), "no database"
        return
    for key, database in list_database_references(profile):
        if database not in profile.databases and key[0] != "semantic":  # reported by ``validate_semantic``
            yield key, f"no section [databases.{database}]"
    if profile.users:
        yield from _check_users(profile.users)
        yield from _check_users_role(profile, profile.users)
    if profile.roles:
        yield from _check_roles(profile, profile.roles)
    if profile.known_login and not (profile.users and profile.users.password):
        yield ("known_login",), "it requires [users.password]"
    for name, section in profile.databases.items():
        if section.migrations:
            yield from _check_migrations(profile, ("databases", name, "migrations"), section.migrations)
    yield from _check_sections(profile)
    yield from _check_semantic(profile)
    yield from _check_secrets(profile)
    yield from _check_cleanup(profile)
    yield from _find_duplicates("settings", "scope", [settings.scope for settings in profile.settings])
    yield from _find_duplicates(
        "search", "name", [search.name for search in profile.search if not search.optional]
    )
    yield from _find_ambiguous_searches(profile)
    yield from _find_duplicates("rebuild", "name", [rebuild.name for rebuild in profile.rebuild])
    yield from _find_duplicates("report", "name", [report.name for report in profile.report])
    yield from _find_duplicates("variants", "name", [variant.name for variant in profile.variants])
    for section_name, entries in (
        ("known_login", profile.known_login),
        ("known_secret", profile.known_secret),
        ("invariant", profile.invariant),
    ):
        yield from _find_duplicates(section_name, "name", [entry.name for entry in entries])


def _check_migrations(profile: Profile, key: Sequence[str], section: Migrations) -> Iterator[Problem]:
    if isinstance(section.ledger, str) and section.ledger not in ledger_detection.ledger_names(profile):
        known = ", ".join(ledger_detection.ledger_names(profile))
        yield (*key, "ledger"), f"no ledger {section.ledger!r}; known: {known}"
    yield from _find_duplicates((*key, "variant"), "name", [variant.name for variant in section.variant])


def _check_cleanup(profile: Profile) -> Iterator[Problem]:
    if profile.sessions and profile.users is None:
        yield ("sessions",), "it requires [users]"
    for index, sessions in enumerate(profile.sessions):
        if sessions.abandoned and sessions.abandoned not in [rule.name for rule in profile.cleanup]:
            yield ("sessions", index, "abandoned"), f"no [[cleanup]] rule {sessions.abandoned}"
        if reason := sessions_model.validate_sessions(sessions):
            yield ("sessions", index), reason
    yield from _find_duplicates("sessions", "name", [sessions.name for sessions in profile.sessions])
    for index, rule in enumerate(profile.cleanup):
        for rule_key, reason in cleanup.validate_cleanup(rule):
            yield ("cleanup", index, *rule_key), reason
    yield from _find_duplicates("cleanup", "name", [rule.name for rule in profile.cleanup])
    if profile.rebuild and profile.users is None:
        yield ("rebuild", 0), "it requires [users]"
    for index, rebuild in enumerate(profile.rebuild):
        for rule_key, reason in rebuild_model.validate_rebuild(rebuild):
            yield ("rebuild", index, *rule_key), reason


def _check_semantic(profile: Profile) -> Iterator[Problem]:
    if profile.semantic:
        for key, reason in semantic.validate_semantic(profile.semantic, list(profile.databases)):
            yield ("semantic", *key), reason


def _check_sections(profile: Profile) -> Iterator[Problem]:
    for index, settings in enumerate(profile.settings):
        for key, reason in _check_settings(settings):
            yield ("settings", index, *key), reason
    for index, search in enumerate(profile.search):
        for key, reason in search_model.validate_search(search):
            yield ("search", index, *key), reason
    for index, link in enumerate(profile.link):
        for key_name, column_paths in (
            ("targets", link.targets),
            ("renamed_from", [link.renamed_from] if link.renamed_from else []),
        ):
            for column_path in column_paths:
                if not all(column_path.rpartition(".")):
                    yield ("link", index, key_name), f"{column_path}: write it as TABLE.COLUMN"
        if len(link.targets) > 1 and (link.repeats or link.every):
            yield ("link", index, "targets"), "repeats and every require a single target"


def _check_secrets(profile: Profile) -> Iterator[Problem]:
    for name, database in profile.databases.items():
        for column_path in database.secret:
            if not all(column_path.removesuffix("?").rpartition(".")):
                yield ("databases", name, "secret"), f"{column_path}: write it as TABLE.COLUMN"


def _find_duplicates(
    section: str | Sequence[str | int], key_name: str, names: Sequence[str]
) -> Iterator[Problem]:
    key = [section] if isinstance(section, str) else section
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (*key, index, key_name), f"{name} is a duplicate"


def _find_ambiguous_searches(profile: Profile) -> Iterator[Problem]:
    """Yield the searches that share a name with an earlier search that would always be used."""
    for index, search in enumerate(profile.search):
        for earlier in profile.search[:index]:
            if earlier.name != search.name or not (earlier.optional or search.optional):
                continue
            location = (search.database, search.table)
            if not earlier.optional or location == (earlier.database, earlier.table):
                yield (
                    ("search", index, "name"),
                    f"the earlier search {search.name} is always used instead",
                )


def _check_users(users: Users) -> Iterator[Problem]:
    if not users.login:
        yield ("users", "login"), "it is empty"
    for field in users.login:
        if field not in users.fields:
            yield ("users", "login"), f"{field} is not in users.fields"
    for field in users.lookup:
        if field not in users.fields:
            yield ("users", "lookup", field), f"{field} is not in users.fields"
    yield from find_value_problems(users)
    if users.password:
        yield from _check_password(users.password)
    for field in users.rules:
        if field not in (*users.fields, *users.joined, "password"):
            yield ("users", "rules", field), f"{field} is not in users.fields"


def _check_password(password: Password) -> Iterator[Problem]:
    if not (password.writes or password.accepts):
        yield PREFIX_KEY[:-1], "it requires writes or accepts"
    if password.writes and (reason := find_prefix_problem(password.writes)):
        yield PREFIX_KEY, reason


def _check_users_role(profile: Profile, users: Users) -> Iterator[Problem]:
    role = users.role
    if users.admin is True:
        yield ("users", "admin"), "it is the name of a role, or false"
    if role is None:
        if users.admin_role:
            yield ("users", "admin"), "it requires [users.role]"
        return
    for role_key, reason in validate_user_role(role):
        yield ("users", "role", *role_key), reason
    if profile.roles and not role.role_table:
        yield ("users", "role"), "there are [roles], but users.role names no table"
    elif profile.roles and role.role_table != profile.roles.table:
        yield ("users", "role", "table"), f"[roles] are in {profile.roles.table}"
    names = list_role_names(role)
    for key, name in (
        (("users", "role", "default"), role.default),
        (("users", "role", "exclusive"), role.exclusive),
        (("users", "admin"), users.admin_role),
    ):
        if name and names and name not in names:
            yield key, f"{name} is none of the roles: {', '.join(names)}"


def _check_roles(profile: Profile, roles: Roles) -> Iterator[Problem]:
    if profile.users is None:
        yield ("roles",), "it requires [users]"
    if "name" not in roles.fields:
        yield ("roles", "fields"), "name is missing"
    permissions = roles.permissions
    if permissions and bool(permissions.name) == bool(permissions.parts):
        yield ("roles", "permissions"), "it requires either name or parts"
    known = {*map(str, roles.built_in.ids), *roles.built_in.names}
    for role in roles.built_in.permissions:
        if role not in known:
            yield ("roles", "built_in", "permissions", role), f"{role} is not in ids or names"


def _check_setting_keys(settings: Settings) -> Iterator[Problem]:
    if (settings.scope == "object") != bool(settings.of):
        yield ("of",), "scope object requires the table of the objects, and other scopes have none"
    forms = {"stored": settings.stored, **{name: key.stored for name, key in settings.keys.items()}}
    for name, form in forms.items():
        if form not in (None, "text") and (settings.row or settings.object or settings.variant):
            key = ("stored",) if name == "stored" else ("keys", name, "stored")
            yield key, "only values without row, object and variant have a stored form"
    for name, declared in settings.keys.items():
        if declared.type and (settings.row or settings.variant):
            yield ("keys", name, "type"), "the types are in row or variant"
        schema = parse_schema(declared.schema)
        if isinstance(schema, str):
            yield ("keys", name, "schema"), "it is not JSON"


def _check_settings(settings: Settings) -> Iterator[Problem]:
    yield from _check_setting_keys(settings)
    if settings.row:
        if settings.scope != "system" or settings.variant or settings.key or "value" in settings.fields:
            yield ("row",), "it requires scope system, and no key, value or variant"
        return
    if "value" not in settings.fields:
        yield ("fields",), "value is missing"
    if settings.object and (settings.scope != "user" or settings.variant or settings.key):
        yield ("object",), "it requires scope user, and no key or variant"
    elif not (settings.object or settings.variant or settings.key):
        yield (), "key or variant is missing"
    if settings.scope != "system" and not settings.user:
        yield (), f"scope {settings.scope} requires the column user"
    for index, variant in enumerate(settings.variant):
        for key, standard in variant.standard.items():
            if standard.type not in variant.types:
                yield ("variant", index, "standard", key), f"{standard.type!r} is not in types"


# Comparison with a live database ---------------------------------------------------------------------------------


def find_missing(profile: Profile, database: str, live: Readable, main: str) -> Iterator[Problem]:
    """Yield every table and column that the profile names for ``database`` and that the live database lacks.

    Args:
        profile: the profile.
        database: the name of the database.
        live: the open database.
        main: the default database of sections.
    """
    tables = live.tables()
    for reference in list_schema_references(profile, main):
        if reference.database != database:
            continue
        if reference.column is None and reference.table not in tables and not reference.is_optional:
            yield reference.key, f"no table {reference.table}"
        elif (
            reference.column
            and reference.table in tables
            and not reference.is_optional
            and not find_column(tables[reference.table], reference.column)
        ):
            column = reference.column if isinstance(reference.column, str) else " or ".join(reference.column)
            yield reference.key, f"no column {reference.table}.{column}"
    for index, settings in enumerate(profile.settings):
        if (settings.database or main) == database and settings.table in tables and settings.variant:
            for missing in _missing_settings_columns(settings, live):
                yield ("settings", index, "variant"), missing


def find_unusable_search_keys(profile: Profile, database: str, live: Readable) -> Iterator[Problem]:
    """Yield the search keys without columns in the live database, unless the profile explains it with ``missing``."""
    for index, search in enumerate(profile.search):
        if search.database != database:
            continue
        try:
            compiler = QueryCompiler(profile, search, live)
        except SchemaMismatchError:  # reported by ``find_missing``
            continue
        for key_index, key in enumerate(search.key):
            if not (key.missing or key.excluded_by or compiler.find_location(key)):
                yield (
                    ("search", index, "key", key_index),
                    f"the database has no columns for the key {key.names[0]}",
                )


def find_uncovered_columns(profile: Profile, database: str, live: Readable, main: str) -> Iterator[Problem]:
    """Yield the required columns of the rows of a new user for which the profile has no value."""
    users = profile.users
    if (
        users is None
        or users.only_app_creates
        or (users.database or main) != database
        or users.table not in live.tables()
    ):
        return
    table = live.tables()[users.table]
    names: list[ColumnNames] = [users.id.column, *users.new, *users.fields.values()]
    names += users.password.columns if users.password else ()
    if users.role:
        names += [users.role.column, *(column for rank in users.role.ranks for column in rank.columns)]
    covered = {find_column(table, name) for name in names}
    for column in table.columns.values():
        if column.required and column.name not in covered:
            yield (
                ("users", "fields"),
                f"{users.table}.{column.name} requires a value, but the profile has none",
            )
    yield from find_uncovered_companions(users, live)


def _missing_settings_columns(settings: Settings, live: Readable) -> Iterator[str]:
    """Yield the missing key columns of the variant whose type column exists, or that no variant matches."""
    table = live.tables()[settings.table]
    for variant in settings.variant:
        if find_column(table, variant.type):
            columns = [variant.key] if isinstance(variant.key, str) else variant.key
            yield from (
                f"no column {settings.table}.{column}" for column in columns if not find_column(table, column)
            )
            return
    yield f"{settings.table} has no column {' or '.join(variant.type for variant in settings.variant)} with the type of a setting"
