"""What is no table (triggers, views, routines, libraries, events), and so cannot be renamed: written as a script, dropped, made anew."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import pymysql

from dbctl.engines.mysql.backup import client_programs
from dbctl.engines.mysql.backup.dump import MORE
from dbctl.engines.mysql.backup.load import FINAL_VIEWS, UNTOUCHED, relocated
from dbctl.engines.mysql.backup.views import VIEW_BROKEN, VIEWS
from dbctl.engines.mysql.errors import number_of
from dbctl.engines.mysql.reader import SOON
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.types import literal
from dbctl.engines.sql import ident
from dbctl.errors import PrivilegeMissingError
from dbctl.files import subprocesses
from dbctl.url import Url

TRIGGERS = "select trigger_name from information_schema.triggers where trigger_schema = {}"
ROUTINES = "select routine_type, routine_name from information_schema.routines where routine_schema = {}"
LIBRARIES = "select library_name from information_schema.libraries where library_schema = {} order by 1"
PACKAGE, PACKAGE_BODY = "PACKAGE", "PACKAGE BODY"  #: of MariaDB; a body is dropped with its package
#: A default that takes the next number of a sequence names the database that the sequence was in when it was set.
DEFAULTS = """select table_name, column_name, column_default from information_schema.columns
where table_schema = {0} and column_default like '%nextval("%'"""
EVENTS = "select event_name from information_schema.events where event_schema = {}"
#: What others than this user have made.
DEFINERS = """select definer, what from (
  select definer, concat('trigger ', trigger_name) as what from information_schema.triggers where trigger_schema = {0}
  union all select definer, concat('view ', table_name) from information_schema.views where table_schema = {0}
  union all select definer, concat('event ', event_name) from information_schema.events where event_schema = {0}
  union all select definer, concat(lower(routine_type), ' ', routine_name) from information_schema.routines
    where routine_schema = {0}) made
where definer <> current_user() order by what"""
MAKES_FOR_OTHERS = re.compile(
    r"\b(?:ALL PRIVILEGES|SUPER|SET USER|SET_USER_ID|SET_ANY_DEFINER)\b.* ON \*\.\*"
)
#: MySQL checks the definer before it looks for the event, so this changes nothing.
TRY_DEFINER = "alter definer = {} event {}.{} comment ''"
#: Error number: the definer needs a right that this account does not have.
RIGHT_MISSING = 1227
#: Rights of MySQL to name a definer: who does not exist, and who may administer the server.
RIGHTS_FOR_DEFINERS = re.compile(r"\b(?:ALLOW_NONEXISTENT_DEFINER|SYSTEM_USER)\b")
#: What a user may do with single routines goes with them.
RIGHTS = "select user, host, routine_type, routine_name, cast(proc_priv as unsigned) from mysql.procs_priv where db = {}"
RIGHT = ("execute", "alter routine", "grant option")  #: by their bits
RIGHTS_UNKNOWN = (
    "what was granted on single routines, if anything, has to be granted again: this user cannot see it"
)
MAY_NOT_READ = 1142
Rights = Sequence[tuple[object, ...]] | None


def script(url: Url, central: Session, database: str, target: str) -> bytes:
    """Return a script that makes everything of a database but its tables; what is broken is not in it."""
    tool, left = client_programs.find("dump", central.server, target), broken(central, database)
    views = [name for name in names(central, VIEWS, database) if name not in left]
    basics = [
        "--default-character-set=utf8mb4",
        "--no-data",
        "--skip-lock-tables",
        *MORE[central.server.product],
    ]
    without = [f"--ignore-table={database}.{name}" for name in left]
    wanted = [["--no-create-info", "--routines", "--triggers", "--events", *without, "--", database]]
    if views:
        wanted.append(["--skip-triggers", "--", database, *views])
    made = []
    watch = client_programs.watch(url, database, target, UNTOUCHED, timeout=SOON)
    with client_programs.at(url, central.server) as where:
        for words in wanted:
            with subprocesses.running(
                [str(tool.path), where, *basics, *words], {}, watch=watch, writes=True
            ) as client:
                made.append(b"".join(client.blocks(heard=False)))
                if client.finish(heard=False):
                    raise client_programs.failed(client, target, timeout=SOON, instead=UNTOUCHED)
    # A routine may be about a view, so what holds its place comes first; a view may use a routine, so it comes last.
    places, mark, final = (made[1] if views else b"").partition(FINAL_VIEWS)
    return b"".join(relocated([places, b"\n", made[0], mark, final], database))


def drop(central: Session, database: str, *, stay: Sequence[str] = ()) -> None:
    """Drop all that is no table, but the views that shall stay."""
    name = ident(database)
    for trigger in names(central, TRIGGERS, database):
        central.run(f"drop trigger {name}.{ident(trigger)}")
    for view in names(central, VIEWS, database):
        if view not in stay:
            central.run(f"drop view {name}.{ident(view)}")
    for event in names(central, EVENTS, database):
        central.run(f"drop event {name}.{ident(event)}")
    for kind, routine in routines(central, database):
        statement = f"drop {kind.lower()} {name}.{ident(routine)}"
        if kind == PACKAGE:
            with _oracle(central):
                central.run(statement)
        elif kind != PACKAGE_BODY:
            central.run(statement)
    for library in libraries(central, database):
        central.run(f"drop library {name}.{ident(library)}")


def count_versions(central: Session, database: str, table: str) -> int:
    """Return how many rows a system-versioned table holds with its history."""
    sql = f"select count(*) from {ident(database)}.{ident(table)} for system_time all"  # noqa: S608 - names are quoted
    return int(str(central.run(sql)[0][0]))


def repoint(central: Session, database: str, source: str) -> None:
    """Let the defaults of columns use the sequences of their own database, which came with them from ``source``."""
    before, changes = f"nextval({ident(source)}.", dict[str, list[str]]()
    for table, column, default in central.run(DEFAULTS.format(literal(database))):
        if before in str(default):
            own = str(default).replace(before, f"nextval({ident(database)}.")
            changes.setdefault(str(table), []).append(f"alter column {ident(str(column))} set default {own}")
    if changes:
        central.run("set session system_versioning_alter_history = 'KEEP'")
    for table, changed in changes.items():  # at once, for a server looks for every sequence of the table
        central.run(f"alter table {ident(database)}.{ident(table)} {', '.join(changed)}")


def broken(central: Session, database: str) -> list[str]:
    """Return the views that cannot be read, and so could not be made again."""
    found = []
    for view in names(central, VIEWS, database):
        try:
            central.run(f"show columns from {ident(database)}.{ident(view)}")
        except pymysql.Error as error:
            if number_of(error) not in VIEW_BROKEN:
                raise
            found.append(view)
    return found


def want_makeable(central: Session, database: str, target: str) -> None:
    """Refuse to drop what this user could not make again.

    Raises:
        PrivilegeMissingError: somebody else made some of it, and this user may not do so in that name.
    """
    others = central.run(DEFINERS.format(literal(database)))
    if others and not any(MAKES_FOR_OTHERS.search(str(line)) for (line,) in central.run("show grants")):
        definer, what = others[0]
        raise _not_makeable(central, target, str(definer), str(what), central.server.making_for_others)
    if central.server.is_mariadb:
        return
    objects = {str(definer): str(what) for definer, what in others}
    for definer, what in objects.items():
        if right := _find_missing_right(central, database, definer):
            raise _not_makeable(central, target, definer, what, right)


def _not_makeable(
    central: Session, target: str, definer: str, what: str, right: str
) -> PrivilegeMissingError:
    return PrivilegeMissingError(
        target=target,
        reason=f"{what} was made by {definer}, and {central.account} could not make it again in that name",
        instead=f"Nothing was changed. As an administrator: GRANT {right} ON *.* TO {central.account};",
    )


def _find_missing_right(central: Session, database: str, definer: str) -> str:
    """Return the right without which MySQL does not accept this definer from this account; empty: it accepts it.

    Few accounts may list the others, so the server is asked with a statement about an event that does not exist.
    """
    user, _, host = definer.rpartition("@")
    missing = ident(f"dbctl_{secrets.token_hex(8)}")
    account = f"{literal(user)}@{literal(host)}"
    try:
        central.run(TRY_DEFINER.format(account, ident(database), missing))
    except pymysql.Error as error:
        if number_of(error) == RIGHT_MISSING and (found := RIGHTS_FOR_DEFINERS.search(str(error.args[-1]))):
            return found[0]
    return ""


def rights(central: Session, database: str) -> Rights:
    """Return who may do what with single routines; None where this user may not know."""
    try:
        return central.run(RIGHTS.format(literal(database)))
    except pymysql.Error as error:
        if number_of(error) != MAY_NOT_READ:
            raise
        return None


def grant(central: Session, database: str, held: Rights) -> list[str]:
    """Grant the rights on single routines again; return what somebody has to look after."""
    there = set(routines(central, database))
    if held is None:
        return [RIGHTS_UNKNOWN] if there else []
    remarks = []
    for user, host, kind, name, bits in held:
        if (str(kind), str(name)) in there:
            words = [word for at, word in enumerate(RIGHT) if int(str(bits)) >> at & 1]
            what = ", ".join(word for word in words if word != "grant option") or "usage"
            passing = " with grant option" if "grant option" in words else ""
            routine = f"{str(kind).lower()} {ident(database)}.{ident(str(name))}"
            sql = f"grant {what} on {routine} to {literal(str(user))}@{literal(str(host))}{passing}"
            try:
                central.run(sql)
            except pymysql.Error as error:
                remarks.append(f"a right was not granted again ({error.args[-1]}): {sql}")
    return remarks


def names(central: Session, sql: str, database: str) -> list[str]:
    """Return what a question about a database finds, one name in each row."""
    return [str(name) for (name,) in central.run(sql.format(literal(database)))]


@contextmanager
def _oracle(central: Session) -> Iterator[None]:
    """Let a session understand statements about packages."""
    ((modes,),) = central.run("select @@sql_mode")
    central.run(f"set session sql_mode = {literal(f'{modes},ORACLE')}")
    try:
        yield
    finally:
        central.run(f"set session sql_mode = {literal(str(modes))}")


def routines(central: Session, database: str) -> list[tuple[str, str]]:
    """Return the kind and the name of each routine of a database."""
    return cast("list[tuple[str, str]]", central.run(ROUTINES.format(literal(database))))


def libraries(central: Session, database: str) -> list[str]:
    """Return the names of the libraries of a database; none on servers that have no libraries."""
    return names(central, LIBRARIES, database) if central.server.has_libraries else []
