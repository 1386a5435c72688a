"""Check that a profile is consistent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from dbctl.errors.connection import report_file_errors
from dbctl.errors.usage import ProfileInvalidError
from dbctl.files import toml
from dbctl.profiles import loader
from dbctl.profiles.model import cleanup, integrity
from dbctl.profiles.model import cleanup as rebuild_model
from dbctl.profiles.model import cleanup as sessions_model
from dbctl.profiles.model import search as search_model
from dbctl.profiles.model.base import list_names
from dbctl.profiles.model.databases import Database, Migrations
from dbctl.profiles.model.profile import Profile
from dbctl.profiles.model.roles import Roles, list_role_names, validate_user_role
from dbctl.profiles.model.settings import Settings
from dbctl.profiles.model.users import ActiveValues, Password, Users
from dbctl.profiles.passwords import find_prefix_problem, has_byte_limit
from dbctl.profiles.payloads import parse_row_path
from dbctl.profiles.schema_references import list_database_references, list_schema_references
from dbctl.profiles.templates import NAMED, is_generator
from dbctl.profiles.variants import apply_variant, locate_key
from dbctl.services.app import ledger_detection
from dbctl.services.app.secrets import is_secret_setting
from dbctl.services.checks.user_values import Problem, check_renewed, find_value_problems
from dbctl.services.settings.values import parse_schema
from dbctl.url import list_engines

#: The sections whose entries differ by the value of a key.
_UNIQUE_KEYS = (
    ("settings", "scope"), ("sessions", "name"), ("cleanup", "name"), ("rebuild", "name"), ("report", "name"), ("variants", "name"),
    ("known_login", "name"), ("known_secret", "name"), ("invariant", "name"),
)  # fmt: skip
#: The keys of tables with values by column, which are constants, ``:now`` or ``:null``.
_CONSTANTS = {
    "only", "excluded", "successor", "on_end", "on_reset", "confirmed", "failed", "where", "set", "open", "lasting",
}  # fmt: skip
#: Sections whose columns ``users show`` prints as they are.
_SHOWN = (("users", "statistics"), ("users", "lookup"))
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
    with report_file_errors(path, kind="profile"):
        text = toml.read_text(path)
    return find_text_problems(text)


def find_text_problems(text: str) -> list[toml.Problem]:
    """Return the errors in the text of a profile, also those of its variants, in the order of lines."""
    try:
        loader.parse(text)
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
        if database not in profile.databases:
            yield key, f"no section [databases.{database}]"
    if profile.users:
        yield from _check_users(profile.users)
        yield from _check_users_role(profile, profile.users)
    if profile.roles:
        yield from _check_roles(profile, profile.roles)
    if profile.known_login and not (profile.users and profile.users.password):
        yield ("known_login",), "it requires [users.password]"
    for name, section in profile.databases.items():
        yield from _check_engines(name, section)
        if section.migrations:
            yield from _check_migrations(profile, ("databases", name, "migrations"), section.migrations)
    yield from _check_sections(profile)
    yield from _check_extension_sections(profile)
    yield from _check_secrets(profile)
    yield from _check_secret_settings(profile)
    yield from _check_shown_secrets(profile)
    yield from _check_constants((), msgspec.to_builtins(profile))
    yield from _check_sessions(profile)
    for field, key_name in _UNIQUE_KEYS:
        yield from _find_duplicates(field, key_name, getattr(profile, field))
    yield from _find_duplicates("search", "name", [entry for entry in profile.search if not entry.optional])
    yield from _find_ambiguous_searches(profile)


def _check_engines(name: str, section: Database) -> Iterator[Problem]:
    known = dict(list_engines())
    for key, engines in (("engines", section.engines), ("recommended", section.recommended)):
        for engine in engines:
            if engine not in known:
                yield ("databases", name, key), f"no engine {engine!r}; known: {', '.join(known)}"


def _check_migrations(profile: Profile, key: Sequence[str], section: Migrations) -> Iterator[Problem]:
    if isinstance(section.ledger, str) and section.ledger not in ledger_detection.ledger_names(profile):
        known = ", ".join(ledger_detection.ledger_names(profile))
        yield (*key, "ledger"), f"no ledger {section.ledger!r}; known: {known}"
    yield from _find_duplicates((*key, "variant"), "name", section.variant)


def _check_sessions(profile: Profile) -> Iterator[Problem]:
    for section, key in ((profile.sessions, ("sessions",)), (profile.rebuild, ("rebuild", 0))):
        if section and profile.users is None:
            yield key, "it requires [users]"
    for index, sessions in enumerate(profile.sessions):
        if sessions.abandoned and sessions.abandoned not in [rule.name for rule in profile.cleanup]:
            yield ("sessions", index, "abandoned"), f"no [[cleanup]] rule {sessions.abandoned}"
        if reason := sessions_model.validate_sessions(sessions):
            yield ("sessions", index), reason


def _check_extension_sections(profile: Profile) -> Iterator[Problem]:
    for name, section in profile.list_extension_sections().items():
        for key, reason in section.find_problems(profile):
            yield (name, *key), reason


def _check_sections(profile: Profile) -> Iterator[Problem]:
    validations: Mapping[str, Callable[[Any], Iterator[Problem]]] = {
        "settings": _check_settings,
        "search": search_model.validate_search,
        "cleanup": cleanup.validate_cleanup,
        "rebuild": rebuild_model.validate_rebuild,
        "link": integrity.validate_link,
        "invariant": integrity.validate_invariant,
        "values": integrity.validate_values,
    }
    for section, validate in validations.items():
        for index, entry in enumerate(getattr(profile, section)):
            for key, reason in validate(entry):
                yield (section, index, *key), reason


def _check_constants(key: Sequence[str | int], value: object) -> Iterator[Problem]:
    """Yield the values of columns that look like the current time or NULL, but would be stored and compared as texts."""
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _check_constants((*key, index), entry)
    for name, entry in value.items() if isinstance(value, dict) else ():
        yield from _check_constants((*key, name), entry)
        if key[-1:] and key[-1] in _CONSTANTS:
            is_list = isinstance(entry, list)
            for constant in entry if is_list else [entry]:
                if is_generator(constant) or (is_list and constant in NAMED):
                    known = "a list has no such values" if is_list else f"known: {', '.join(NAMED)}"
                    yield (*key, name), f"no value {constant}; {known}"


def _check_secrets(profile: Profile) -> Iterator[Problem]:
    for name, database in profile.databases.items():
        for column_path in database.secret:
            if not all(column_path.removesuffix("?").rpartition(".")):
                yield ("databases", name, "secret"), f"{column_path}: write it as TABLE.COLUMN"


def _check_secret_settings(profile: Profile) -> Iterator[Problem]:
    """Yield the settings in columns that are secret, while commands would show them."""
    for index, settings in enumerate(profile.settings):
        database_name = settings.database or profile.main_database
        paths = profile.databases[database_name].secret if database_name in profile.databases else ()
        prefix = f"{settings.table.removesuffix('?')}."
        columns = [path[len(prefix) :].removesuffix("?") for path in paths if path.startswith(prefix)]
        values = list_names(settings.fields.get("value"))
        for column in columns:
            if settings.row:
                is_shown = column in settings.row.types and not is_secret_setting(settings, column)
            else:
                is_shown = column in values and not settings.secret
            if is_shown:
                yield ("settings", index, "secret"), f"{prefix}{column} is secret: list its settings"


def _check_shown_secrets(profile: Profile) -> Iterator[Problem]:
    """Yield the columns that searches, statistics and lookups would show, although they are secret."""
    databases = profile.databases.items()
    secret = {(name, path.removesuffix("?")) for name, section in databases for path in section.secret}
    for reference in list_schema_references(profile, profile.main_database) if secret else ():
        if reference.key[0] == "search" or tuple(reference.key[:2]) in _SHOWN:
            for column in list_names(reference.column):
                path = f"{reference.table}.{column.removesuffix('?')}"
                if (reference.database, path) in secret:
                    yield reference.key, f"{path} is secret"


def _find_duplicates(
    section: str | Sequence[str | int], key_name: str, entries: Sequence[object]
) -> Iterator[Problem]:
    key = [section] if isinstance(section, str) else section
    names = [getattr(entry, key_name) for entry in entries]
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
                yield (("search", index, "name"), f"the earlier search {search.name} is always used instead")


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
    yield from _check_deletion(users)
    if users.active:
        yield from _check_active(users.active)
    for field in users.rules:
        if field not in (*users.fields, *users.joined, "password"):
            yield ("users", "rules", field), f"{field} is not in users.fields"


def _check_active(active: ActiveValues) -> Iterator[Problem]:
    if active.inactive in active.values:
        yield ("users", "active", "inactive"), "it is also in values"
    constants = [(("values", index), value) for index, value in enumerate(active.values)]
    for key, value in [*constants, (("inactive",), active.inactive)]:
        if is_generator(value):
            yield ("users", "active", *key), f"no value {value}; known: {', '.join(NAMED)}"


def _check_deletion(users: Users) -> Iterator[Problem]:
    """Yield the paths that would delete other users, and those that two keys handle in different ways."""
    handled = dict[str, str]()
    for key, paths in (("cascade", users.cascade), ("clear", users.clear), ("retained", [*users.retained])):
        for index, path in enumerate(paths):
            place = ("users", key, path if key == "retained" else index)
            if key == "cascade" and _names_users(users, path):
                yield place, f"{path} would delete other users"
            other = handled.setdefault(path.replace("?", ""), key)
            if other != key:
                yield place, f"{path} is also in users.{other}"


def _names_users(users: Users, path: str) -> bool:
    """Return whether all rows of a path are users, not other rows of their table."""
    step = parse_row_path(path)[0]
    return step.table == users.table and not (step.filter or users.only or users.excluded)


def _check_password(password: Password) -> Iterator[Problem]:
    if not (password.writes or password.accepts):
        yield PREFIX_KEY[:-1], "it requires writes or accepts"
    if password.writes and (reason := find_prefix_problem(password.writes)):
        yield PREFIX_KEY, reason
    if password.hmac_key and password.writes and has_byte_limit(password.writes):
        yield PREFIX_KEY, "the format reads only the first bytes of an HMAC, which dbctl does not write"
    yield from check_renewed(("users", "password", "also"), password.also)


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
    if settings.true == settings.false:
        yield ("true",), "it is also the text of false"
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
