"""Code objects (triggers, views, routines, libraries, events), which cannot be renamed: dump, drop and create them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import pymysql
from msgspec import structs
from pymysql.charset import charset_by_name

from dbctl.engines.mysql import dump_programs, exact_values
from dbctl.engines.mysql.dialect import Server
from dbctl.engines.mysql.dump_programs import PRODUCT_OPTIONS
from dbctl.engines.mysql.load import FINAL_VIEWS, remove_database_name
from dbctl.engines.mysql.opening import error_number, quote, quote_account
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.values import format_literal
from dbctl.engines.servers.database import SHORT_TIMEOUT
from dbctl.engines.servers.dumps import UNCHANGED
from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.url import Url

VIEWS = "select table_name from information_schema.views where table_schema = {} order by 1"
USES_OF_VIEWS = """select view_name, table_name from information_schema.view_table_usage
where view_schema = {0} and table_schema = {0}"""
#: The tables that a view reads, or its definer, do not exist.
VIEW_BROKEN = (1356, 1449)
#: In the order in which those of one event run.
TRIGGERS = """select trigger_name from information_schema.triggers where trigger_schema = {}
order by event_object_table, action_timing, event_manipulation, action_order"""
#: Packages of MariaDB come before their bodies.
ROUTINES = """select routine_type, routine_name from information_schema.routines where routine_schema = {}
order by routine_type, routine_name"""
LIBRARIES = "select library_name from information_schema.libraries where library_schema = {} order by 1"
TEXT = r"'(?:[^'\\]|\\.|'')*'"
#: The triggers, routines and events of a database, with their statements; an event may be enabled.
STATEMENTS = """select concat('trigger ', trigger_name), action_statement from information_schema.triggers where trigger_schema = {0}
union all select concat(lower(routine_type), ' ', routine_name), routine_definition from information_schema.routines where routine_schema = {0}
union all select concat('event ', event_name), event_definition from information_schema.events where event_schema = {0}
order by 1"""
PACKAGE, PACKAGE_BODY = "PACKAGE", "PACKAGE BODY"  #: of MariaDB; a body is dropped with its package
#: Enables statements about packages in a session.
_ORACLE_MODE = "set @dbctl_mode = @@sql_mode, session sql_mode = concat(@@sql_mode, ',ORACLE')"
#: Between its lines about two semicolons, a dump has one definition, and one line for each statement around it.
_DELIMITER = re.compile(rb"^DELIMITER (;;?)\n", re.MULTILINE)
_SETTING = re.compile(rb"(?:/\*!50003 SET|/\*!50106 DROP EVENT|ALTER DATABASE) [^\n;]*")
#: The default of a column with a sequence names the database that contained the sequence when it was set.
DEFAULTS = """select table_name, column_name, column_default from information_schema.columns
where table_schema = {0} and column_default like '%nextval("%'"""
EVENTS = "select event_name from information_schema.events where event_schema = {}"
#: The objects of a database, and the users that have created them.
DEFINED = """(
  select definer, concat('trigger ', trigger_name) as what from information_schema.triggers where trigger_schema = {0}
  union all select definer, concat('view ', table_name) from information_schema.views where table_schema = {0}
  union all select definer, concat('event ', event_name) from information_schema.events where event_schema = {0}
  union all select definer, concat(lower(routine_type), ' ', routine_name) from information_schema.routines
    where routine_schema = {0}) made"""
#: Objects that other users than this one have created.
DEFINERS = f"select definer, what from {DEFINED} where definer <> current_user() order by what"
DEFINER_PRIVILEGES = re.compile(
    r"\b(?:ALL PRIVILEGES|SUPER|SET USER|SET_USER_ID|SET_ANY_DEFINER)\b.* ON \*\.\*"
)
#: MySQL checks the definer before it looks for the event, so this statement changes nothing.
TRY_DEFINER = "alter definer = {} event {}.{} comment ''"
#: Error number: the definer needs a right that this account does not have.
RIGHT_MISSING = 1227
#: Rights of MySQL to use a definer that does not exist, or that may administer the server.
RIGHTS_FOR_DEFINERS = re.compile(r"\b(?:ALLOW_NONEXISTENT_DEFINER|SYSTEM_USER)\b")
#: Users' rights on single routines, which are dropped with the routines.
ROUTINE_RIGHTS = "select user, host, routine_type, routine_name, cast(proc_priv as unsigned) from mysql.procs_priv where db = {}"
RIGHT_NAMES = ("execute", "alter routine", "grant option")  #: by their bits
RIGHTS_UNKNOWN = "grants on single routines are not visible to this user: grant them again, if any"
MAY_NOT_READ = 1142
Rights = Sequence[tuple[object, ...]] | None


def dump_script(url: Url, central: Session, database: str, target: str) -> bytes:
    """Return a script that creates all objects of a database except tables; broken views are left out."""
    tool = dump_programs.find_dump_program(central.server, target, url)
    broken_views = find_broken_views(central, database)
    views = [name for name in list_names(central, VIEWS, database) if name not in broken_views]
    options = [
        "--default-character-set=utf8mb4",
        "--no-data",
        "--skip-lock-tables",
        *PRODUCT_OPTIONS[central.server.product],
    ]
    exclusions = [f"--ignore-table={database}.{name}" for name in broken_views]
    selections = [["--no-create-info", "--routines", "--triggers", "--events", *exclusions, "--", database]]
    if views:
        selections.append(["--skip-triggers", "--", database, *views])
    scripts = []
    watch = dump_programs.create_watch(url, database, target, UNCHANGED, timeout=SHORT_TIMEOUT)
    for words in selections:
        with (
            exact_values.start_relay(
                structs.replace(url, path=database),
                central.server,
                target,
                timeout=SHORT_TIMEOUT,
                in_container=tool.in_container,
            ) as relay,
            dump_programs.run_client(
                tool,
                [*options, *words],
                url,
                central.server,
                target,
                watch=watch,
                writes=True,
                socket_path=relay.path if relay else None,
            ) as client,
        ):
            scripts.append(b"".join(client.blocks(interruptible=False)))
            if client.finish(interruptible=False):
                raise dump_programs.to_error(client, url, target, timeout=SHORT_TIMEOUT, instead=UNCHANGED)
    # Placeholders of views come first, since routines may use views; final views come last, since views may use routines.
    placeholders, mark, final = (scripts[1] if views else b"").partition(FINAL_VIEWS)
    return b"".join(remove_database_name([placeholders, b"\n", scripts[0], mark, final], database))


def to_packet(script: bytes, server: Server) -> bytes:
    """Return a script of ``dump_script`` without the lines for its client, as statements of one packet.

    Empty if only the client can separate the statements: a definition has text that looks like the end of one, or the server
    is MySQL, which makes the semicolon between two statements a part of a body without BEGIN.
    """
    text, *parts = _DELIMITER.split(script)
    for delimiter, part in zip(parts[::2], parts[1::2], strict=True):
        *statements, end = part.split(b";;\n")
        definitions = [statement for statement in statements if not _SETTING.fullmatch(statement)]
        most_definitions = 1 if server.is_mariadb else 0
        if statements if delimiter == b";" else end or len(definitions) > most_definitions:
            return b""
        text += b";\n".join([*statements, end])
    return text


def drop_code(central: Session, database: str, *, keep_views: Sequence[str] = ()) -> None:
    """Drop all objects of a database except tables, and the views in ``keep_views``."""
    for statement in list_drops(central, database, keep_views=keep_views):
        central.run(statement)


def list_drops(central: Session, database: str, *, keep_views: Sequence[str] = ()) -> list[str]:
    """Return the statements of ``drop_code``."""
    name = ident(database)
    drops = [f"drop trigger {name}.{ident(trigger)}" for trigger in list_names(central, TRIGGERS, database)]
    views = (view for view in list_names(central, VIEWS, database) if view not in keep_views)
    drops += (f"drop view {name}.{ident(view)}" for view in views)
    drops += (f"drop event {name}.{ident(event)}" for event in list_names(central, EVENTS, database))
    for kind, routine in list_routines(central, database):
        statement = f"drop {kind.lower()} {name}.{ident(routine)}"
        if kind == PACKAGE:
            drops += [_ORACLE_MODE, statement, "set session sql_mode = @dbctl_mode"]
        elif kind != PACKAGE_BODY:
            drops.append(statement)
    drops += (f"drop library {name}.{ident(library)}" for library in list_libraries(central, database))
    return drops


def list_repointing(central: Session, database: str, source: str) -> list[str]:
    """Return what makes defaults of columns use the sequences of ``database``, after all tables of ``source`` were moved there."""
    old_prefix, changes = f"nextval({ident(source)}.", dict[str, list[str]]()
    for table, column, default in central.run(DEFAULTS.format(format_literal(source))):
        if old_prefix in str(default):
            new_default = str(default).replace(old_prefix, f"nextval({ident(database)}.")
            changes.setdefault(str(table), []).append(
                f"alter column {ident(str(column))} set default {new_default}"
            )
    # One statement for each table, since a server resolves all sequences of the table.
    alters = [
        f"alter table {ident(database)}.{ident(table)} {', '.join(changed)}"
        for table, changed in changes.items()
    ]
    return ["set session system_versioning_alter_history = 'KEEP'", *alters] if alters else []


def find_broken_views(central: Session, database: str) -> list[str]:
    """Return the views that cannot be read, and so could not be created again."""
    views = list_names(central, VIEWS, database)
    return [
        view for view in views if _is_broken(central, f"show columns from {ident(database)}.{ident(view)}")
    ]


def _is_broken(session: Session, sql: str) -> bool:
    """Return whether a statement fails because of a broken view."""
    try:
        session.run(sql)
    except pymysql.Error as error:
        if error_number(error) not in VIEW_BROKEN:
            raise
        return True
    return False


def require_recreatable(central: Session, database: str, target: str) -> None:
    """Refuse to drop objects that this user could not create again.

    Raises:
        PrivilegeMissingError: an object has another definer, and this user may not use that definer.
    """
    others = central.run(DEFINERS.format(format_literal(database)))
    if others and not any(DEFINER_PRIVILEGES.search(str(line)) for (line,) in central.run("show grants")):
        definer, description = others[0]
        raise _recreate_denied_error(
            central, target, str(definer), str(description), central.server.definer_privilege
        )
    if central.server.is_mariadb:
        return
    objects = {str(definer): str(description) for definer, description in others}
    for definer, description in objects.items():
        if right := _find_missing_right(central, database, definer):
            raise _recreate_denied_error(central, target, definer, description, right)


def _recreate_denied_error(
    central: Session, target: str, definer: str, description: str, right: str
) -> PrivilegeMissingError:
    return PrivilegeMissingError(
        target=target,
        reason=f"{description} has definer {definer}, and {central.account} may not create it with that definer",
        hint=f"Nothing was changed. As an administrator: GRANT {right} ON *.* TO {central.account};",
    )


def _find_missing_right(central: Session, database: str, definer: str) -> str:
    """Return the right without which MySQL rejects this definer from this account; empty if it accepts it.

    Few accounts may list other accounts, so a statement about a missing event tests the definer.
    """
    event = ident(f"dbctl_{secrets.token_hex(8)}")
    try:
        central.run(TRY_DEFINER.format(quote_account(definer), ident(database), event))
    except pymysql.Error as error:
        if error_number(error) == RIGHT_MISSING and (
            match := RIGHTS_FOR_DEFINERS.search(str(error.args[-1]))
        ):
            return match[0]
    return ""


def read_routine_rights(central: Session, database: str) -> Rights:
    """Return the rights of users on single routines; None if this user may not read them."""
    try:
        return central.run(ROUTINE_RIGHTS.format(format_literal(database)))
    except pymysql.Error as error:
        if error_number(error) != MAY_NOT_READ:
            raise
        return None


def grant_routine_rights(central: Session, database: str, rights: Rights) -> list[str]:
    """Grant the rights on single routines again; return warnings."""
    existing = set(list_routines(central, database))
    if rights is None:
        return [RIGHTS_UNKNOWN] if existing else []
    remarks = []
    for user, host, kind, name, bits in rights:
        if (str(kind), str(name)) in existing:
            names = [word for bit, word in enumerate(RIGHT_NAMES) if int(str(bits)) >> bit & 1]
            privileges = ", ".join(word for word in names if word != "grant option") or "usage"
            grant_option = " with grant option" if "grant option" in names else ""
            routine = f"{str(kind).lower()} {ident(database)}.{ident(str(name))}"
            sql = f"grant {privileges} on {routine} to {format_literal(str(user))}@{format_literal(str(host))}{grant_option}"
            try:
                central.run(sql)
            except pymysql.Error as error:
                remarks.append(f"a right was not granted again ({error.args[-1]}): {sql}")
    return remarks


def list_names(central: Session, sql: str, database: str) -> list[str]:
    """Return the names in the result of a query about a database, one per row."""
    return [str(name) for (name,) in central.run(sql.format(format_literal(database)))]


def find_uses(central: Session, database: str, other: str) -> list[str]:
    """Return the triggers, routines and events of a database whose statements name the ``other`` one."""
    rows = central.run(STATEMENTS.format(format_literal(database)))
    return [str(name) for name, statement in rows if names_database(str(statement or ""), other)]


def names_database(sql: str, database: str) -> bool:
    """Whether a statement that an author wrote names a database."""
    pattern = re.compile(rf"{TEXT}|(?P<name>(?<![.`\w]){database_qualifier(database)})", re.IGNORECASE)
    return any(match["name"] for match in pattern.finditer(sql))


def database_qualifier(database: str) -> str:
    """Return the pattern of a database before a name."""
    doubled = database.replace('"', '""')
    return rf'(?:{re.escape(quote(database))}|"{re.escape(doubled)}"|{re.escape(database)})\s*\.\s*'


def list_routines(central: Session, database: str) -> list[tuple[str, str]]:
    return cast("list[tuple[str, str]]", central.run(ROUTINES.format(format_literal(database))))


def list_libraries(central: Session, database: str) -> list[str]:
    """Return the names of the libraries of a database; none on servers that have no libraries."""
    return list_names(central, LIBRARIES, database) if central.server.has_libraries else []


def list_unrestorable_views(session: Session) -> list[str]:
    """Return the views of this database that read a view whose definer does not exist.

    No user can read them, and MySQL does not create them again. MariaDB does.
    """
    if session.server.is_mariadb:
        return []
    views = list_names(session, VIEWS, session.database)
    unreadable = {view for view in views if _is_broken(session, f"select 1 from {ident(view)} limit 0")}
    reads = session.run(USES_OF_VIEWS.format(format_literal(session.database))) if unreadable else []
    return sorted({str(view) for view, used in reads if {str(view), str(used)} <= unreadable})


#: The mode in which definitions are read and run: a table may have any default, and no other engine than its own.
PLAIN_MODE = "NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO"
#: Settings of statements whose objects have none of their own.
DEFAULT_SETTINGS = {
    "sql_mode": PLAIN_MODE,
    "time_zone": "+00:00",
    "character_set_client": "utf8mb4",
    "collation_connection": "utf8mb4_general_ci",
}
_SETTINGS = "set session "
#: The place of the statement in the result of SHOW CREATE; its character set and its collation follow.
_PLACES = {"view": 1, "event": 3}


class Definition(NamedTuple):
    """A trigger, view, routine, library or event, as the server shows it."""

    kind: str
    name: str
    statement: str  #: empty: this user may not read it
    settings: Mapping[str, str]  #: of the session that created it

    @property
    def statements(self) -> Sequence[str]:
        """What creates it again, for ``encode_statements``."""
        settings = {**DEFAULT_SETTINGS, **self.settings}
        values = (f"{name} = {format_literal(value)}" for name, value in settings.items())
        return [_SETTINGS + ", ".join(values), self.statement]


def read_definition(session: Session, kind: str, name: str) -> Definition:
    """Return the definition of an object; ``kind`` is in lower case, and the mode of the session decides how a view is shown."""
    (row,) = session.run(f"show create {kind} {quote(name)}")
    place = _PLACES.get(kind, 2)
    names = ["sql_mode", "time_zone"][: place - 1]
    settings = dict(zip(names, row[1:], strict=False))
    settings |= zip(["character_set_client", "collation_connection"], row[place + 1 :], strict=False)
    texts = {name: str(value) for name, value in settings.items()}
    return Definition(kind, name, str(row[place] or ""), texts)


def encode_statements(session: Session, statements: Iterable[str]) -> Iterator[bytes]:
    """Yield statements, which have to run before the next one is read: in the character set of the settings before them."""
    encoding = "utf-8"
    for sql in statements:
        yield sql.encode(encoding, "surrogateescape")
        if sql.startswith(_SETTINGS):
            ((charset,),) = session.run("select @@character_set_client")
            encoding = charset_by_name(str(charset)).encoding
