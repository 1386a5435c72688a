"""Check that a profile is consistent, and that a live database has the tables and columns that it names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from dbctl.engines.contract import Readable
from dbctl.errors import SchemaMismatchError
from dbctl.model import Struct
from dbctl.profiles.model import (
    Cleanup,
    ColumnNames,
    Migrations,
    Profile,
    Rebuild,
    Roles,
    Search,
    Semantic,
    Sessions,
    Settings,
    TimeOffset,
    Users,
    cleanup,
    semantic,
)
from dbctl.profiles.model import rebuild as rebuild_model
from dbctl.profiles.model import search as search_model
from dbctl.profiles.model import sessions as sessions_model
from dbctl.services.app import find_column, is_optional, ledger_detection
from dbctl.services.search import QueryCompiler
from dbctl.services.users import STEP_SEPARATOR

#: A key in a profile, and the problem with its value.
Problem: TypeAlias = tuple[Sequence[str | int], str]


class SchemaReference(Struct, frozen=True, kw_only=True):
    """A table or column that a profile names."""

    key: Sequence[str | int]  #: its key in the profile
    database: str
    table: str
    column: ColumnNames | None = None  #: None: the table itself
    is_table_optional: bool = False  #: whether deployments may lack the table

    @property
    def is_optional(self) -> bool:
        """Whether deployments may lack it."""
        return self.is_table_optional if self.column is None else is_optional(self.column)


# Consistency of the profile ----------------------------------------------------------------------------------------


def find_inconsistencies(profile: Profile) -> Iterator[Problem]:
    """Yield the errors in a profile that its schema does not detect."""
    if not profile.databases:
        yield ("databases",), "no database"
        return
    for key, database in _database_references(profile):
        if database and database not in profile.databases:
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


def _database_references(profile: Profile) -> Iterator[tuple[Sequence[str | int], str]]:
    if profile.users:
        yield ("users", "database"), profile.users.database
    sections = (
        "settings",
        "search",
        "link",
        "recount",
        "report",
        "cleanup",
        "states",
        "values",
        "exclusive",
        "stored_file",
        "key_search",
        "known_secret",
        "invariant",
    )
    for section in sections:
        for index, entry in enumerate(getattr(profile, section)):
            yield (section, index, "database"), entry.database
    for index, link in enumerate(profile.link):
        yield ("link", index, "to"), link.to


def _check_users(users: Users) -> Iterator[Problem]:
    if not users.login:
        yield ("users", "login"), "it is empty"
    for field in users.login:
        if field not in users.fields:
            yield ("users", "login"), f"{field} is not in users.fields"
    for field in users.lookup:
        if field not in users.fields:
            yield ("users", "lookup", field), f"{field} is not in users.fields"
    for field in users.rules:
        if field not in users.fields and field != "password":
            yield ("users", "rules", field), f"{field} is not in users.fields"


def _check_users_role(profile: Profile, users: Users) -> Iterator[Problem]:
    role = users.role
    if role is None:
        if users.admin:
            yield ("users", "admin"), "it requires [users.role]"
        return
    if profile.roles and not role.table:
        yield ("users", "role"), "there are [roles], but users.role names no table"
    elif profile.roles and role.table != profile.roles.table:
        yield ("users", "role", "table"), f"[roles] are in {profile.roles.table}"
    for key, name in ((("users", "role", "default"), role.default), (("users", "admin"), users.admin)):
        if name and role.values and name not in role.values:
            yield key, f"{name} is not in users.role.values"


def _check_roles(profile: Profile, roles: Roles) -> Iterator[Problem]:
    if profile.users is None:
        yield ("roles",), "it requires [users]"
    if "name" not in roles.fields:
        yield ("roles", "fields"), "name is missing"
    known = {*map(str, roles.built_in.ids), *roles.built_in.names}
    for role in roles.built_in.permissions:
        if role not in known:
            yield ("roles", "built_in", "permissions", role), f"{role} is not in ids or names"


def _check_settings(settings: Settings) -> Iterator[Problem]:
    if settings.row:
        if settings.scope == "user" or settings.variant or settings.key or "value" in settings.fields:
            yield ("row",), "it requires scope system, and no key, value or variant"
        return
    if "value" not in settings.fields:
        yield ("fields",), "value is missing"
    if settings.object and (settings.scope == "system" or settings.variant or settings.key):
        yield ("object",), "it requires scope user, and no key or variant"
    elif not (settings.object or settings.variant or settings.key):
        yield (), "key or variant is missing"
    if settings.scope == "user" and not settings.user:
        yield (), "scope user requires the column user"
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
    for reference in schema_references(profile, main):
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
    """Yield the required columns of a user's row for which the profile has no value."""
    users = profile.users
    if users is None or (users.database or main) != database or users.table not in live.tables():
        return
    table = live.tables()[users.table]
    names: list[ColumnNames] = [users.id.column, *users.new, *users.fields.values()]
    names += [section.column for section in (users.password, users.role) if section]
    covered = {find_column(table, name) for name in names}
    for column in table.columns.values():
        if column.required and column.name not in covered:
            yield (
                ("users", "fields"),
                f"{users.table}.{column.name} requires a value, but the profile has none",
            )


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


# Tables and columns in a profile ---------------------------------------------------------------------------------


def schema_references(profile: Profile, main: str) -> Iterator[SchemaReference]:
    """Yield every table and column that a profile names, with its key."""
    yield from _database_columns(profile)
    users_database = (profile.users.database if profile.users else "") or main
    if profile.users:
        yield from _user_references(profile.users, users_database)
        for index, sessions in enumerate(profile.sessions):
            yield from _session_references(("sessions", index), sessions, users_database)
    if profile.roles:
        yield from _role_references(profile.roles, users_database)
    yield from _settings_references(profile, main)
    for index, search in enumerate(profile.search):
        yield from _search_references(("search", index), search)
    if profile.semantic:
        yield from _semantic_references(("semantic",), profile.semantic)
    for index, rule in enumerate(profile.cleanup):
        yield from _cleanup_references(("cleanup", index), rule, rule.database or main)
    for index, rebuild in enumerate(profile.rebuild):
        yield from _rebuild_references(("rebuild", index), rebuild, users_database)
    yield from _integrity_references(profile, main)
    yield from _key_search_references(profile, main)
    if profile.audit:
        yield from _table_references(("audit",), main, profile.audit.table, {}, profile.audit.fields)


def _database_columns(profile: Profile) -> Iterator[SchemaReference]:
    for name, section in profile.databases.items():
        for table in section.needs:
            yield SchemaReference(key=("databases", name, "needs"), database=name, table=table)
        for column_path in section.secret:
            table, _, column = column_path.rpartition(".")
            key, spare = ("databases", name, "secret"), column_path.endswith("?")
            yield SchemaReference(key=key, database=name, table=table, is_table_optional=spare)
            yield SchemaReference(key=key, database=name, table=table, column=column)


def _settings_references(profile: Profile, main: str) -> Iterator[SchemaReference]:
    for index, setting in enumerate(profile.settings):
        section_key = ("settings", index)
        columns: dict[str, ColumnNames] = {"user": setting.user} if setting.user else {}
        columns |= {"row": setting.row.key} if setting.row else {}
        columns |= (
            {"key": setting.key}
            if setting.key and not setting.variant and isinstance(setting.key, str)
            else {}
        )
        yield from _table_references(
            section_key, setting.database or main, setting.table, columns, setting.fields
        )
        types = setting.row.types if setting.row else ()
        yield from _column_references(
            (*section_key, "row", "types"), setting.database or main, setting.table, types
        )


def _key_search_references(profile: Profile, main: str) -> Iterator[SchemaReference]:
    for index, search in enumerate(profile.key_search):
        for column_path in search.columns:
            table, _, column = column_path.rpartition(".")
            yield from _column_references(
                ("key_search", index, "columns"), search.database or main, table, [column]
            )


def _integrity_references(profile: Profile, main: str) -> Iterator[SchemaReference]:
    for index, secret in enumerate(profile.known_secret):
        table, database, key = (
            secret.table.removesuffix("?"),
            secret.database or main,
            ("known_secret", index),
        )
        yield SchemaReference(
            key=(*key, "table"), database=database, table=table, is_table_optional=table != secret.table
        )
        yield from _column_references(key, database, table, [secret.key, secret.column, *secret.where])
    for index, states in enumerate(profile.states):
        yield from _table_references(
            ("states", index), states.database or main, states.table, {"column": states.column}
        )
    for index, allowed in enumerate(profile.values):
        table = allowed.table.removesuffix("?")
        if table == allowed.table:
            yield from _table_references(
                ("values", index), allowed.database or main, table, {"column": allowed.column}
            )
    for index, exclusive in enumerate(profile.exclusive):
        columns: dict[str, ColumnNames] = {"column": exclusive.column} | (
            {"within": exclusive.within} if exclusive.within else {}
        )
        yield from _table_references(
            ("exclusive", index), exclusive.database or main, exclusive.table, columns
        )
    for index, file in enumerate(profile.stored_file):
        optional_columns = {"column": file.column, "name": file.name, "type": file.type, "size": file.size}
        named_columns = {key_name: name for key_name, name in optional_columns.items() if name}
        yield from _table_references(("stored_file", index), file.database or main, file.table, named_columns)
    for index, link in enumerate(profile.link):
        if not link.optional:
            yield from _table_references(
                ("link", index), link.database or main, link.table, {"column": link.column}
            )
        table, _, column = link.targets[0].rpartition(".")
        yield SchemaReference(key=("link", index, "targets"), database=link.to, table=table, column=column)
        yield from _column_references(("link", index, "repeats"), link.to, table, link.repeats.values())
        former_table, _, column = link.renamed_from.rpartition(".")
        if former_table:
            yield SchemaReference(
                key=("link", index, "renamed_from"), database=link.to, table=former_table, column=column
            )


def _user_references(users: Users, database: str) -> Iterator[SchemaReference]:
    yield from _table_references(("users",), database, users.table, {}, users.fields)
    yield SchemaReference(key=("users", "id"), database=database, table=users.table, column=users.id.column)
    if users.password:
        yield SchemaReference(
            key=("users", "password"), database=database, table=users.table, column=users.password.column
        )
    if users.role:
        yield SchemaReference(
            key=("users", "role"), database=database, table=users.table, column=users.role.column
        )
        if users.role.table:
            yield from _table_references(
                ("users", "role"),
                database,
                users.role.table,
                {"key": users.role.key, "name": users.role.name},
            )
    yield from _user_row_references(users, database)


def _user_row_references(users: Users, database: str) -> Iterator[SchemaReference]:
    for index, sign_in in enumerate(users.signed_in):
        columns: dict[str, ColumnNames] = {
            "user": sign_in.user,
            "expires_at": sign_in.expires_at,
            "token": sign_in.token,
        }
        section_key, table = ("users", "signed_in", index), sign_in.table.removesuffix("?")
        yield SchemaReference(
            key=(*section_key, "table"),
            database=database,
            table=table,
            is_table_optional=table != sign_in.table,
        )
        for key_name, column in columns.items():
            yield SchemaReference(key=(*section_key, key_name), database=database, table=table, column=column)
        yield from _column_references((*section_key, "on_end"), database, table, sign_in.on_end)
    if users.lockout:
        lockout = users.lockout
        columns = {
            "login": lockout.login,
            "address": lockout.address or "?",
            "attempted_at": lockout.attempted_at,
        }
        yield from _table_references(("users", "lockout"), database, lockout.table, columns)
        yield from _column_references(("users", "lockout", "failed"), database, lockout.table, lockout.failed)
    if users.statistics:
        statistics = users.statistics
        yield from _table_references(
            ("users", "statistics"), database, statistics.table, {"user": statistics.user}
        )
        yield from _column_references(
            ("users", "statistics", "columns"), database, statistics.table, statistics.columns
        )
    yield from _step_references(("users", "cascade"), enumerate(users.cascade), database)
    yield from _step_references(("users", "counts"), users.counts.items(), database)
    for index, transfer in enumerate(users.transfer):
        section_key, table = ("users", "transfer", index), transfer.table.removesuffix("?")
        yield SchemaReference(
            key=(*section_key, "table"),
            database=database,
            table=table,
            is_table_optional=table != transfer.table,
        )
        yield SchemaReference(
            key=(*section_key, "column"), database=database, table=table, column=transfer.column
        )
        yield from _column_references((*section_key, "once"), database, table, transfer.once)
    for field, lookup in users.lookup.items():
        yield from _table_references(
            ("users", "lookup", field), database, lookup.table, {"key": lookup.key, "name": lookup.name}
        )


def _step_references(
    key: Sequence[str], paths: Iterable[tuple[str | int, str]], database: str
) -> Iterator[SchemaReference]:
    """Yield the tables and columns of paths like ``Rating.promptId -> Prompt.userId``; deployments may lack them."""
    for position, steps in paths:
        for step in steps.split(STEP_SEPARATOR):
            table, _, column = step.partition(".")
            yield SchemaReference(
                key=(*key, position), database=database, table=table, is_table_optional=True
            )
            yield SchemaReference(key=(*key, position), database=database, table=table, column=column)


def _role_references(roles: Roles, database: str) -> Iterator[SchemaReference]:
    yield from _table_references(("roles",), database, roles.table, {"key": roles.key}, roles.fields)
    permissions = roles.permissions
    if permissions:
        columns: dict[str, ColumnNames] = {
            "key": permissions.key,
            "name": permissions.name,
            "description": permissions.description,
            "resource": permissions.resource,
            "action": permissions.action,
        }
        yield from _table_references(("roles", "permissions"), database, permissions.table, columns)
        link = permissions.link
        pair: dict[str, ColumnNames] = {"role": link.role, "permission": link.permission}
        yield from _table_references(("roles", "permissions", "link"), database, link.table, pair)


def _session_references(
    key: Sequence[str | int], sessions: Sessions, database: str
) -> Iterator[SchemaReference]:
    table = sessions.table.removesuffix("?")
    yield SchemaReference(
        key=(*key, "table"), database=database, table=table, is_table_optional=table != sessions.table
    )
    key_names = ("key", "user", "started_at", "seen_at", "ended_at", "expires_at", "duration")
    for key_name, column in {key_name: getattr(sessions, key_name) for key_name in key_names}.items():
        if column:
            yield SchemaReference(key=(*key, key_name), database=database, table=table, column=column)
    yield from _column_references((*key, "open"), database, table, sessions.open)
    yield from _column_references((*key, "only"), database, table, sessions.only)
    for key_name, column in sessions.fields.items():
        yield SchemaReference(key=(*key, "fields", key_name), database=database, table=table, column=column)


def _search_references(key: Sequence[str | int], search: Search) -> Iterator[SchemaReference]:
    section_key, is_optional = (*key, "table"), search.optional
    yield SchemaReference(
        key=section_key, database=search.database, table=search.table, is_table_optional=is_optional
    )
    yield SchemaReference(key=(*key, "id"), database=search.database, table=search.table, column=search.id)
    for key_name, columns in (("words", search.words), ("show", search.show)):
        for column in columns:
            yield SchemaReference(
                key=(*key, key_name), database=search.database, table=search.table, column=column
            )


def _semantic_references(key: Sequence[str | int], section: Semantic) -> Iterator[SchemaReference]:
    yield SchemaReference(
        key=(*key, "table"), database=section.database, table=section.table, is_table_optional=True
    )
    columns: dict[str, ColumnNames] = {"id": section.id, "vector": section.vector}
    columns |= {f"filters.{name}": related.column for name, related in section.filters.items()}
    for key_name, column in columns.items():
        yield SchemaReference(
            key=(*key, *key_name.split(".")), database=section.database, table=section.table, column=column
        )
    for name, column in section.fields.items():
        yield SchemaReference(
            key=(*key, "fields", name), database=section.database, table=section.table, column=column
        )
    for index, related in enumerate(section.related):
        yield from _table_references(
            (*key, "related", index), related.database, related.table, {"key": related.key}, related.fields
        )
        if section.source and section.source.related == related.name:
            section_key = (*key, "source")
            for name, column in section.source.fields.items():
                yield SchemaReference(
                    key=(*section_key, "fields", name),
                    database=related.database,
                    table=related.table,
                    column=column,
                )
            yield from _column_references(
                (*section_key, "constants"), section.database, section.table, section.source.constants
            )


def _cleanup_references(key: Sequence[str | int], rule: Cleanup, database: str) -> Iterator[SchemaReference]:
    table = rule.table.removesuffix("?")
    yield SchemaReference(
        key=(*key, "table"), database=database, table=table, is_table_optional=table != rule.table
    )
    columns: dict[str, ColumnNames] = {"key": rule.key, "same_transaction": rule.same_transaction or rule.key}
    for key_name, column in columns.items():
        yield SchemaReference(key=(*key, key_name), database=database, table=table, column=column)
    yield SchemaReference(key=(*key, "age", "column"), database=database, table=table, column=rule.age.column)
    yield from _column_references((*key, "where"), database, table, rule.where)
    yield from _column_references((*key, "set"), database, table, rule.set)
    sources = [value.from_ for value in rule.set.values() if isinstance(value, TimeOffset)]
    yield from _column_references((*key, "set"), database, table, sources)
    for index, after in enumerate(rule.after):
        section_key = (*key, "after", index)
        yield SchemaReference(key=(*section_key, "into"), database=database, table=after.into)
        yield from _column_references((*section_key, "key"), database, after.into, after.key)
        yield from _column_references((*section_key, "merge"), database, after.into, after.merge)
    for index, recount in enumerate(rule.recount):
        section_key = (*key, "recount", index)
        yield SchemaReference(key=(*section_key, "table"), database=database, table=recount.table)
        yield from _column_references((*section_key, "key"), database, recount.table, recount.key)
        yield from _column_references((*section_key, "columns"), database, recount.table, recount.columns)


def _rebuild_references(
    key: Sequence[str | int], section: Rebuild, database: str
) -> Iterator[SchemaReference]:
    table = section.table.removesuffix("?")
    yield SchemaReference(
        key=(*key, "table"), database=database, table=table, is_table_optional=table != section.table
    )
    for key_name in ("key", "figures", "further", "touched"):
        yield from _column_references((*key, key_name), database, table, getattr(section, key_name))


def _table_references(
    key: Sequence[str | int],
    database: str,
    table: str,
    columns: Mapping[str, ColumnNames],
    fields: Mapping[str, ColumnNames] | None = None,
) -> Iterator[SchemaReference]:
    """Yield a table, the columns in keys of its section, and those of its ``fields``."""
    yield SchemaReference(key=(*key, "table"), database=database, table=table)
    for key_name, column in columns.items():
        yield SchemaReference(key=(*key, key_name), database=database, table=table, column=column)
    for key_name, column in (fields or {}).items():
        yield SchemaReference(key=(*key, "fields", key_name), database=database, table=table, column=column)


def _column_references(
    key: Sequence[str | int], database: str, table: str, columns: Iterable[str]
) -> Iterator[SchemaReference]:
    for column in columns:
        yield SchemaReference(key=key, database=database, table=table, column=column)
