"""Whether a profile makes sense, and whether a live database has what it names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from dbctl.engines.contract import Readable
from dbctl.errors import SchemaLacksError
from dbctl.model import Value
from dbctl.profiles.model import (
    Cleanup,
    Migrations,
    Moved,
    Name,
    Profile,
    Rebuild,
    Roles,
    Search,
    Semantic,
    Sessions,
    Settings,
    Users,
    cleanup,
    semantic,
)
from dbctl.profiles.model import rebuild as rebuild_model
from dbctl.profiles.model import search as search_model
from dbctl.profiles.model import sessions as sessions_model
from dbctl.services.app import find_column, ledger_detection, may_lack
from dbctl.services.search import Compiler
from dbctl.services.users import STEP

#: Where in a profile something stands, and what is wrong with it.
Complaint: TypeAlias = tuple[Sequence[str | int], str]


class Named(Value, frozen=True, kw_only=True):
    """A table or column that a profile names."""

    key: Sequence[str | int]  #: where in the profile
    database: str
    table: str
    column: Name | None = None  #: None: the table itself
    spare: bool = False  #: a deployment may do without the table

    @property
    def optional(self) -> bool:
        """Whether a deployment may do without it."""
        return self.spare if self.column is None else may_lack(self.column)


# The profile by itself ---------------------------------------------------------------------------------------------


def inconsistent(profile: Profile) -> Iterator[Complaint]:
    """Yield what the form of a profile allows and its sense does not."""
    if not profile.databases:
        yield ("databases",), "it names no database"
        return
    for key, database in _databases_named(profile):
        if database and database not in profile.databases:
            yield key, f"there is no [databases.{database}]"
    if profile.users:
        yield from _inconsistent_users(profile.users)
        yield from _inconsistent_users_role(profile, profile.users)
    if profile.roles:
        yield from _inconsistent_roles(profile, profile.roles)
    if profile.check and not (profile.users and profile.users.password):
        yield ("check",), "there are no passwords ([users.password]) that could be known"
    for name, one in profile.databases.items():
        if one.migrations:
            yield from _inconsistent_migrations(profile, ("databases", name, "migrations"), one.migrations)
    yield from _inconsistent_parts(profile)
    yield from _inconsistent_semantic(profile)
    yield from _inconsistent_secrets(profile)
    yield from _inconsistent_cleanup(profile)
    yield from _twice("settings", "scope", [told.scope for told in profile.settings])
    yield from _twice("search", "name", [search.name for search in profile.search if not search.optional])
    yield from _ambiguous_searches(profile)
    yield from _twice("rebuild", "name", [rebuild.name for rebuild in profile.rebuild])
    yield from _twice("report", "name", [report.name for report in profile.report])
    for section, named in (("check", profile.check), ("known", profile.known), ("flaw", profile.flaw)):
        yield from _twice(section, "name", [one.name for one in named])


def _inconsistent_migrations(profile: Profile, key: Sequence[str], told: Migrations) -> Iterator[Complaint]:
    if isinstance(told.ledger, str) and told.ledger not in ledger_detection.names(profile):
        known = ", ".join(ledger_detection.names(profile))
        yield (*key, "ledger"), f"no ledger is called {told.ledger!r}; known are {known}"
    yield from _twice((*key, "shape"), "name", [one.name for one in told.shape])


def _inconsistent_cleanup(profile: Profile) -> Iterator[Complaint]:
    if profile.sessions and profile.users is None:
        yield ("sessions",), "there are no [users] whose they could be"
    for at, told in enumerate(profile.sessions):
        if told.abandoned and told.abandoned not in [rule.name for rule in profile.cleanup]:
            yield ("sessions", at, "abandoned"), f"there is no [[cleanup]] {told.abandoned}"
        if mistake := sessions_model.mistakes(told):
            yield ("sessions", at), mistake
    yield from _twice("sessions", "name", [told.name for told in profile.sessions])
    for at, rule in enumerate(profile.cleanup):
        for place, reason in cleanup.mistakes(rule):
            yield ("cleanup", at, *place), reason
    yield from _twice("cleanup", "name", [rule.name for rule in profile.cleanup])
    if profile.rebuild and profile.users is None:
        yield ("rebuild", 0), "there are no [users] whose figures they could be"
    for at, rebuild in enumerate(profile.rebuild):
        for place, reason in rebuild_model.mistakes(rebuild):
            yield ("rebuild", at, *place), reason


def _inconsistent_semantic(profile: Profile) -> Iterator[Complaint]:
    if profile.semantic:
        for key, reason in semantic.mistakes(profile.semantic, list(profile.databases)):
            yield ("semantic", *key), reason


def _inconsistent_parts(profile: Profile) -> Iterator[Complaint]:
    for at, told in enumerate(profile.settings):
        for key, reason in _inconsistent_settings(told):
            yield ("settings", at, *key), reason
    for at, search in enumerate(profile.search):
        for key, reason in search_model.mistakes(search):
            yield ("search", at, *key), reason
    for at, link in enumerate(profile.link):
        for word, places in (("among", link.among), ("formerly", [link.formerly] if link.formerly else [])):
            for place in places:
                if not all(place.rpartition(".")):
                    yield ("link", at, word), f"{place}: write it as TABLE.COLUMN"
        if len(link.among) > 1 and (link.repeats or link.every):
            yield ("link", at, "among"), "rows that are repeated are those of one table"


def _inconsistent_secrets(profile: Profile) -> Iterator[Complaint]:
    for name, database in profile.databases.items():
        for place in database.secret:
            if not all(place.removesuffix("?").rpartition(".")):
                yield ("databases", name, "secret"), f"{place}: write it as TABLE.COLUMN"


def _twice(section: str | Sequence[str | int], word: str, given: Sequence[str]) -> Iterator[Complaint]:
    key = [section] if isinstance(section, str) else section
    for at, one in enumerate(given):
        if one in given[:at]:
            yield (*key, at, word), f"{one} is there already"


def _ambiguous_searches(profile: Profile) -> Iterator[Complaint]:
    """Yield the searches that share a name with an earlier search though the tables that exist cannot decide between them."""
    for at, search in enumerate(profile.search):
        for earlier in profile.search[:at]:
            if earlier.name != search.name or not (earlier.optional or search.optional):
                continue
            place = (search.database, search.table)
            if not earlier.optional or place == (earlier.database, earlier.table):
                yield ("search", at, "name"), f"the earlier search {search.name} is always used in its place"


def _databases_named(profile: Profile) -> Iterator[tuple[Sequence[str | int], str]]:
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
        "known",
        "flaw",
    )
    for section in sections:
        for at, told in enumerate(getattr(profile, section)):
            yield (section, at, "database"), told.database
    for at, link in enumerate(profile.link):
        yield ("link", at, "to"), link.to


def _inconsistent_users(users: Users) -> Iterator[Complaint]:
    if not users.login:
        yield ("users", "login"), "it names no field, so nobody could be found"
    for field in users.login:
        if field not in users.fields:
            yield ("users", "login"), f"{field} is none of users.fields"
    for field in users.lookup:
        if field not in users.fields:
            yield ("users", "lookup", field), f"{field} is none of users.fields"
    for field in users.rules:
        if field not in users.fields and field != "password":
            yield ("users", "rules", field), f"{field} is none of users.fields"


def _inconsistent_users_role(profile: Profile, users: Users) -> Iterator[Complaint]:
    role = users.role
    if role is None:
        if users.admin:
            yield ("users", "admin"), "there is no users.role"
        return
    if profile.roles and not role.table:
        yield ("users", "role"), "there are [roles], but users.role names no table"
    elif profile.roles and role.table != profile.roles.table:
        yield ("users", "role", "table"), f"[roles] are in {profile.roles.table}"
    for key, name in ((("users", "role", "default"), role.default), (("users", "admin"), users.admin)):
        if name and role.values and name not in role.values:
            yield key, f"{name} is none of users.role.values"


def _inconsistent_roles(profile: Profile, roles: Roles) -> Iterator[Complaint]:
    if profile.users is None:
        yield ("roles",), "there are no [users] who could have them"
    if "name" not in roles.fields:
        yield ("roles", "fields"), "name is missing"
    known = {*map(str, roles.built_in.ids), *roles.built_in.names}
    for role in roles.built_in.permissions:
        if role not in known:
            yield ("roles", "built_in", "permissions", role), f"{role} is none of ids and names"


def _inconsistent_settings(told: Settings) -> Iterator[Complaint]:
    if told.row:
        if told.scope == "user" or told.shape or told.key or "value" in told.fields:
            yield ("row",), "settings that are columns are the app's, and have no key, no value and no shape"
        return
    if "value" not in told.fields:
        yield ("fields",), "value is missing"
    if told.object and (told.scope == "system" or told.shape or told.key):
        yield ("object",), "settings in the user's own row are the user's, and have no key and no shape"
    elif not (told.object or told.shape or told.key):
        yield (), "key is missing, and no shape says it"
    if told.scope == "user" and not told.user:
        yield (), "scope is user, and no column (user) says whose"
    for at, shape in enumerate(told.shape):
        for key, standard in shape.standard.items():
            if standard.type not in shape.types:
                yield ("shape", at, "standard", key), f"{standard.type!r} is none of types"


# The profile and a live database ---------------------------------------------------------------------------------


def lacking(profile: Profile, database: str, live: Readable, main: str) -> Iterator[Complaint]:
    """Yield every table and column that the profile names for ``database`` and the live one does not have.

    Args:
        profile: what is checked.
        database: the name of the database.
        live: the database itself.
        main: the database that is meant where the profile names none.
    """
    tables = live.tables()
    for one in names(profile, main):
        if one.database != database:
            continue
        if one.column is None and one.table not in tables and not one.optional:
            yield one.key, f"there is no table {one.table}"
        elif (
            one.column
            and one.table in tables
            and not one.optional
            and not find_column(tables[one.table], one.column)
        ):
            told = one.column if isinstance(one.column, str) else " or ".join(one.column)
            yield one.key, f"there is no column {one.table}.{told}"
    for at, settings in enumerate(profile.settings):
        if (settings.database or main) == database and settings.table in tables and settings.shape:
            for lacks in _shapes_lacking(settings, live):
                yield ("settings", at, "shape"), lacks


def unreachable(profile: Profile, database: str, live: Readable) -> Iterator[Complaint]:
    """Yield the keys of searches that no place in the live database stands behind, though the profile does not foresee it."""
    for at, search in enumerate(profile.search):
        if search.database != database:
            continue
        try:
            compiler = Compiler(profile, search, live)
        except SchemaLacksError:  # ``lacking`` tells of the table
            continue
        for number, key in enumerate(search.key):
            if not (key.missing or key.unless or compiler.fitting(key)):
                yield ("search", at, "key", number), f"nothing here can be searched by {key.names[0]}"


def uncovered(profile: Profile, database: str, live: Readable, main: str) -> Iterator[Complaint]:
    """Yield the columns that a new user's row needs and nothing in the profile covers."""
    users = profile.users
    if users is None or (users.database or main) != database or users.table not in live.tables():
        return
    table = live.tables()[users.table]
    told: list[Name] = [users.id.column, *users.new, *users.fields.values()]
    told += [part.column for part in (users.password, users.role) if part]
    covered = {find_column(table, name) for name in told}
    for column in table.columns.values():
        if column.required and column.name not in covered:
            yield (
                ("users", "fields"),
                f"{users.table}.{column.name} wants a value, and the profile has none for it",
            )


def _shapes_lacking(settings: Settings, live: Readable) -> Iterator[str]:
    """Yield what the one shape lacks that the live table's type column tells, or that there is no such shape."""
    table = live.tables()[settings.table]
    for shape in settings.shape:
        if find_column(table, shape.type):
            columns = [shape.key] if isinstance(shape.key, str) else shape.key
            yield from (
                f"there is no column {settings.table}.{one}" for one in columns if not find_column(table, one)
            )
            return
    yield f"{settings.table} has no column {' or '.join(shape.type for shape in settings.shape)} that tells a setting's type"


# What a profile names --------------------------------------------------------------------------------------------


def names(profile: Profile, main: str) -> Iterator[Named]:
    """Yield every table and column that a profile names, with the place where it does."""
    yield from _names_of_databases(profile)
    here = (profile.users.database if profile.users else "") or main
    if profile.users:
        yield from _names_of_users(profile.users, here)
        for at, sessions in enumerate(profile.sessions):
            yield from _names_of_sessions(("sessions", at), sessions, here)
    if profile.roles:
        yield from _names_of_roles(profile.roles, here)
    yield from _names_of_settings(profile, main)
    for at, search in enumerate(profile.search):
        yield from _names_of_search(("search", at), search)
    if profile.semantic:
        yield from _names_of_semantic(("semantic",), profile.semantic)
    for at, rule in enumerate(profile.cleanup):
        yield from _names_of_cleanup(("cleanup", at), rule, rule.database or main)
    for at, rebuild in enumerate(profile.rebuild):
        yield from _names_of_rebuild(("rebuild", at), rebuild, here)
    yield from _names_of_columns(profile, main)
    yield from _names_of_key_searches(profile, main)
    if profile.audit:
        yield from _table(("audit",), main, profile.audit.table, {}, profile.audit.fields)


def _names_of_databases(profile: Profile) -> Iterator[Named]:
    for name, told in profile.databases.items():
        for table in told.needs:
            yield Named(key=("databases", name, "needs"), database=name, table=table)
        for place in told.secret:
            table, _, column = place.rpartition(".")
            key, spare = ("databases", name, "secret"), place.endswith("?")
            yield Named(key=key, database=name, table=table, spare=spare)
            yield Named(key=key, database=name, table=table, column=column)


def _names_of_settings(profile: Profile, main: str) -> Iterator[Named]:
    for at, setting in enumerate(profile.settings):
        place = ("settings", at)
        own: dict[str, Name] = {"user": setting.user} if setting.user else {}
        own |= {"row": setting.row.key} if setting.row else {}
        own |= (
            {"key": setting.key} if setting.key and not setting.shape and isinstance(setting.key, str) else {}
        )
        yield from _table(place, setting.database or main, setting.table, own, setting.fields)
        types = setting.row.types if setting.row else ()
        yield from _columns((*place, "row", "types"), setting.database or main, setting.table, types)


def _names_of_key_searches(profile: Profile, main: str) -> Iterator[Named]:
    for at, search in enumerate(profile.key_search):
        for place in search.columns:
            table, _, column = place.rpartition(".")
            yield from _columns(("key_search", at, "columns"), search.database or main, table, [column])


def _names_of_columns(profile: Profile, main: str) -> Iterator[Named]:
    for at, known in enumerate(profile.known):
        table, here, key = known.table.removesuffix("?"), known.database or main, ("known", at)
        yield Named(key=(*key, "table"), database=here, table=table, spare=table != known.table)
        yield from _columns(key, here, table, [known.key, known.column, *known.where])
    for at, states in enumerate(profile.states):
        yield from _table(("states", at), states.database or main, states.table, {"column": states.column})
    for at, listed in enumerate(profile.values):
        table = listed.table.removesuffix("?")
        if table == listed.table:
            yield from _table(("values", at), listed.database or main, table, {"column": listed.column})
    for at, one in enumerate(profile.exclusive):
        own: dict[str, Name] = {"column": one.column} | ({"within": one.within} if one.within else {})
        yield from _table(("exclusive", at), one.database or main, one.table, own)
    for at, file in enumerate(profile.stored_file):
        parts = {"column": file.column, "name": file.name, "type": file.type, "size": file.size}
        named = {word: name for word, name in parts.items() if name}
        yield from _table(("stored_file", at), file.database or main, file.table, named)
    for at, link in enumerate(profile.link):
        if not link.optional:
            yield from _table(("link", at), link.database or main, link.table, {"column": link.column})
        table, _, column = link.among[0].rpartition(".")
        yield Named(key=("link", at, "among"), database=link.to, table=table, column=column)
        yield from _columns(("link", at, "repeats"), link.to, table, link.repeats.values())
        formerly, _, column = link.formerly.rpartition(".")
        if formerly:
            yield Named(key=("link", at, "formerly"), database=link.to, table=formerly, column=column)


def _names_of_users(users: Users, here: str) -> Iterator[Named]:
    yield from _table(("users",), here, users.table, {}, users.fields)
    yield Named(key=("users", "id"), database=here, table=users.table, column=users.id.column)
    if users.password:
        yield Named(key=("users", "password"), database=here, table=users.table, column=users.password.column)
    if users.role:
        yield Named(key=("users", "role"), database=here, table=users.table, column=users.role.column)
        if users.role.table:
            yield from _table(
                ("users", "role"), here, users.role.table, {"key": users.role.key, "name": users.role.name}
            )
    yield from _names_of_what_is_theirs(users, here)


def _names_of_what_is_theirs(users: Users, here: str) -> Iterator[Named]:
    for at, ended in enumerate(users.signed_in):
        own: dict[str, Name] = {"user": ended.user, "expires_at": ended.expires_at, "token": ended.token}
        place, table = ("users", "signed_in", at), ended.table.removesuffix("?")
        yield Named(key=(*place, "table"), database=here, table=table, spare=table != ended.table)
        for word, column in own.items():
            yield Named(key=(*place, word), database=here, table=table, column=column)
        yield from _columns((*place, "end"), here, table, ended.end)
    if users.lockout:
        out = users.lockout
        own = {"login": out.login, "address": out.address or "?", "at": out.at}
        yield from _table(("users", "lockout"), here, out.table, own)
        yield from _columns(("users", "lockout", "failed"), here, out.table, out.failed)
    if users.statistics:
        told = users.statistics
        yield from _table(("users", "statistics"), here, told.table, {"user": told.user})
        yield from _columns(("users", "statistics", "columns"), here, told.table, told.columns)
    yield from _names_of_steps(("users", "owns"), enumerate(users.owns), here)
    yield from _names_of_steps(("users", "counts"), users.counts.items(), here)
    for at, one in enumerate(users.transfer):
        place, table = ("users", "transfer", at), one.table.removesuffix("?")
        yield Named(key=(*place, "table"), database=here, table=table, spare=table != one.table)
        yield Named(key=(*place, "column"), database=here, table=table, column=one.column)
        yield from _columns((*place, "once"), here, table, one.once)
    for field, look in users.lookup.items():
        yield from _table(("users", "lookup", field), here, look.table, {"key": look.key, "name": look.name})


def _names_of_steps(key: Sequence[str], told: Iterable[tuple[str | int, str]], here: str) -> Iterator[Named]:
    """Yield the tables and columns of ``Rating.promptId -> Prompt.userId``, which deployments may lack."""
    for at, steps in told:
        for step in steps.split(STEP):
            table, _, column = step.partition(".")
            yield Named(key=(*key, at), database=here, table=table, spare=True)
            yield Named(key=(*key, at), database=here, table=table, column=column)


def _names_of_roles(roles: Roles, here: str) -> Iterator[Named]:
    yield from _table(("roles",), here, roles.table, {"key": roles.key}, roles.fields)
    told = roles.permissions
    if told:
        own: dict[str, Name] = {
            "key": told.key,
            "name": told.name,
            "description": told.description,
            "resource": told.resource,
            "action": told.action,
        }
        yield from _table(("roles", "permissions"), here, told.table, own)
        link = told.link
        pair: dict[str, Name] = {"role": link.role, "permission": link.permission}
        yield from _table(("roles", "permissions", "link"), here, link.table, pair)


def _names_of_sessions(key: Sequence[str | int], told: Sessions, here: str) -> Iterator[Named]:
    table = told.table.removesuffix("?")
    yield Named(key=(*key, "table"), database=here, table=table, spare=table != told.table)
    words = ("key", "user", "started_at", "seen_at", "ended_at", "expires_at", "duration")
    for word, column in {word: getattr(told, word) for word in words}.items():
        if column:
            yield Named(key=(*key, word), database=here, table=table, column=column)
    yield from _columns((*key, "open"), here, table, told.open)
    yield from _columns((*key, "only"), here, table, told.only)
    for word, column in told.fields.items():
        yield Named(key=(*key, "fields", word), database=here, table=table, column=column)


def _names_of_search(key: Sequence[str | int], search: Search) -> Iterator[Named]:
    place, spare = (*key, "table"), search.optional
    yield Named(key=place, database=search.database, table=search.table, spare=spare)
    yield Named(key=(*key, "id"), database=search.database, table=search.table, column=search.id)
    for word, columns in (("words", search.words), ("show", search.show)):
        for column in columns:
            yield Named(key=(*key, word), database=search.database, table=search.table, column=column)


def _names_of_semantic(key: Sequence[str | int], told: Semantic) -> Iterator[Named]:
    yield Named(key=(*key, "table"), database=told.database, table=told.table, spare=True)
    own: dict[str, Name] = {"id": told.id, "vector": told.vector}
    own |= {f"filters.{name}": one.column for name, one in told.filters.items()}
    for word, column in own.items():
        yield Named(key=(*key, *word.split(".")), database=told.database, table=told.table, column=column)
    for name, column in told.fields.items():
        yield Named(key=(*key, "fields", name), database=told.database, table=told.table, column=column)
    for at, one in enumerate(told.beside):
        yield from _table((*key, "beside", at), one.database, one.table, {"key": one.key}, one.fields)
        if told.source and told.source.beside == one.name:
            place = (*key, "source")
            for name, column in told.source.fields.items():
                yield Named(
                    key=(*place, "fields", name), database=one.database, table=one.table, column=column
                )
            yield from _columns((*place, "constants"), told.database, told.table, told.source.constants)


def _names_of_cleanup(key: Sequence[str | int], rule: Cleanup, here: str) -> Iterator[Named]:
    table = rule.table.removesuffix("?")
    yield Named(key=(*key, "table"), database=here, table=table, spare=table != rule.table)
    own: dict[str, Name] = {"key": rule.key, "together": rule.together or rule.key}
    for word, column in own.items():
        yield Named(key=(*key, word), database=here, table=table, column=column)
    yield Named(key=(*key, "age", "column"), database=here, table=table, column=rule.age.column)
    yield from _columns((*key, "where"), here, table, rule.where)
    yield from _columns((*key, "set"), here, table, rule.set)
    sources = [value.from_ for value in rule.set.values() if isinstance(value, Moved)]
    yield from _columns((*key, "set"), here, table, sources)
    for at, then in enumerate(rule.then):
        place = (*key, "then", at)
        yield Named(key=(*place, "into"), database=here, table=then.into)
        yield from _columns((*place, "key"), here, then.into, then.key)
        yield from _columns((*place, "merge"), here, then.into, then.merge)
    for at, recount in enumerate(rule.recount):
        place = (*key, "recount", at)
        yield Named(key=(*place, "table"), database=here, table=recount.table)
        yield from _columns((*place, "key"), here, recount.table, recount.key)
        yield from _columns((*place, "columns"), here, recount.table, recount.columns)


def _names_of_rebuild(key: Sequence[str | int], told: Rebuild, here: str) -> Iterator[Named]:
    table = told.table.removesuffix("?")
    yield Named(key=(*key, "table"), database=here, table=table, spare=table != told.table)
    for word in ("key", "figures", "further", "touched"):
        yield from _columns((*key, word), here, table, getattr(told, word))


def _table(
    key: Sequence[str | int],
    database: str,
    table: str,
    own: Mapping[str, Name],
    fields: Mapping[str, Name] | None = None,
) -> Iterator[Named]:
    """Yield a table, the columns that keys of its section name, and those of its ``fields``."""
    yield Named(key=(*key, "table"), database=database, table=table)
    for word, column in own.items():
        yield Named(key=(*key, word), database=database, table=table, column=column)
    for word, column in (fields or {}).items():
        yield Named(key=(*key, "fields", word), database=database, table=table, column=column)


def _columns(key: Sequence[str | int], database: str, table: str, columns: Iterable[str]) -> Iterator[Named]:
    for column in columns:
        yield Named(key=key, database=database, table=table, column=column)
