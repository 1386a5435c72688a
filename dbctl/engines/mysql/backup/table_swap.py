"""Move the tables of a loaded database to their place in one statement, and create all other objects again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pymysql
from msgspec import structs

from dbctl import signals
from dbctl.engines.contract.dumps import LoadRequest
from dbctl.engines.mysql import locks
from dbctl.engines.mysql.backup import stored_code
from dbctl.engines.mysql.backup.foreign import stored_code as foreign
from dbctl.engines.mysql.backup.load import run_script
from dbctl.engines.mysql.backup.restore_server import (
    CHARSET,
    TABLES,
    RestoreServer,
    charset_clause,
    create_statement,
)
from dbctl.engines.mysql.connection.session import Session
from dbctl.engines.mysql.types.values import format_literal
from dbctl.engines.servers.database import new_scratch_name
from dbctl.engines.sql.catalog import ident
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError
from dbctl.errors.restore import RestoreUnfinishedError

#: Precedes the code objects in the script of a retained database.
CODE_MARKER = "-- What is no table follows.\n"
DANGLING_KEYS = """select table_name, constraint_name from information_schema.referential_constraints
where constraint_schema = {0} and unique_constraint_schema = {1} order by 1, 2"""


@contextmanager
def lock_swap(server: RestoreServer, central: Session) -> Iterator[None]:
    """Make other dbctl processes wait until the server has finished the swap, even if this process is killed.

    Otherwise a restore that begins before that would mistake the new tables for the old ones, and drop the retained ones.
    """
    name = locks.swap_lock_name(locks.lock_name(server.name))
    # The holder of the lock of the database has already waited for it.
    if central.run(locks.acquire_sql(name)) != [(1,)]:
        raise BusyError(target=server.target, holder=" by another restore", waited="0")
    try:
        yield
    finally:
        with signals.block_signals(), suppress(pymysql.Error):
            central.run(locks.release_sql(name))


def swap_tables(server: RestoreServer, central: Session, source: str, request: LoadRequest) -> Sequence[str]:
    """Move all objects of ``source`` into the database, and its tables into the retained one.

    Raises:
        RestoreUnfinishedError: the tables were moved, or may have been, and code objects are missing.
    """
    dump, timeout = request.dump, request.timeout
    script = b"" if dump.foreign else dump_code(server, central, source)
    definitions = _read_definitions(server, source, timeout) if dump.foreign else []
    routine_rights = stored_code.read_routine_rights(central, server.name)
    signals.raise_if_interrupted()
    if not (exists := server.exists(central, server.name)):
        central.run(create_statement(server.name, dump.metadata))
    old_name = request.retained_name or new_scratch_name(server.name)
    before = dump_code(server, central, server.name)
    broken_views = stored_code.find_broken_views(central, server.name)
    unreadable = stored_code.find_broken_views(central, source)
    ((charset, collation),) = central.run(CHARSET.format(format_literal(server.name)))
    central.run(create_statement(old_name, {"charset": str(charset), "collation": str(collation)}))
    with signals.block_signals():
        try:
            for database in (server.name, source):
                # Broken views cannot be created again.
                stored_code.drop_code(central, database, keep_views=broken_views)
            old, new = (
                stored_code.list_names(central, TABLES, database) for database in (server.name, source)
            )
            for view in set(broken_views) & set(new):
                central.run(f"drop view {ident(server.name)}.{ident(view)}")
            moves = [*rename_clauses(old, server.name, old_name), *rename_clauses(new, source, server.name)]
            if moves:
                central.run(f"rename table {', '.join(moves)}")
        except BaseException as error:  # no table was moved: code objects are created again
            with _report_unfinished(server, error):
                _recreate_code(server, central, server.name, before, timeout, keep_views=broken_views)
                for database in [old_name] if exists else [old_name, server.name]:
                    central.run(f"drop database {ident(database)}")
            raise
        with _report_unfinished(server, None):
            if "charset" in dump.metadata:
                central.run(f"alter database {ident(server.name)}{charset_clause(dump.metadata)}")
            stored_code.repoint_sequences(central, server.name, source)
            _recreate_code(server, central, server.name, script, timeout)
            warnings = _create_definitions(server, definitions, timeout)
        remarks = [*warnings, *(f"view {view} was broken and is not retained" for view in broken_views)]
        remarks += (f"view {view} cannot be read and is not restored" for view in unreadable)
        remarks += _drop_dangling_keys(server, central, old_name)
        remarks += stored_code.grant_routine_rights(central, server.name, routine_rights)
        if not request.retained_name:
            central.run(f"drop database {ident(old_name)}")
    return remarks


def restore_retained(server: RestoreServer, central: Session, request: LoadRequest) -> Sequence[str]:
    dump, timeout = request.dump, request.timeout
    source = dump.metadata["kept"]
    server.require_retained(central, dump)
    script = request.path.read_bytes().partition(CODE_MARKER.encode())[2]
    if not stored_code.list_names(central, TABLES, source) and dump.metadata["tables"] != "0":
        # The restore that retained it failed before its tables were renamed; at most its code objects were dropped.
        with signals.block_signals(), _report_unfinished(server, None):
            _recreate_code(server, central, server.name, script, timeout)
        return ()
    try:  # first in the retained database, so that a failure changes nothing
        _recreate_code(server, central, source, script, timeout)
    except BaseException:
        with signals.block_signals():
            stored_code.drop_code(central, source)
        raise
    with lock_swap(server, central):
        remarks = swap_tables(server, central, source, request)
    with signals.block_signals():
        central.run(f"drop database {ident(source)}")
    return remarks


def dump_code(server: RestoreServer, central: Session, database: str) -> bytes:
    """Return the script that creates the triggers, views, routines and events of a database."""
    return stored_code.dump_script(server.url, central, database, server.target)


def _drop_dangling_keys(server: RestoreServer, central: Session, retained_name: str) -> Iterator[str]:
    """Drop foreign keys of retained tables that referred to no table, and would refer to a new one; yield a remark each."""
    for table, key in central.run(
        DANGLING_KEYS.format(format_literal(retained_name), format_literal(server.name))
    ):
        central.run(
            f"alter table {ident(retained_name)}.{ident(str(table))} drop foreign key {ident(str(key))}"
        )
        yield f"foreign key {key} of {table} referred to no table and is not retained"


def _read_definitions(server: RestoreServer, source: str, timeout: float) -> list[foreign.Definition]:
    with server.central(timeout) as session:
        return foreign.read_definitions(session, source)


def _create_definitions(
    server: RestoreServer, definitions: Sequence[foreign.Definition], timeout: float
) -> list[str]:
    if not definitions:
        return []
    with server.central(timeout) as session:
        return foreign.create_objects(session, server.name, definitions)


@contextmanager
def _report_unfinished(server: RestoreServer, first: BaseException | None) -> Iterator[None]:
    """Report a failure as an unfinished restore; ``first`` is an earlier error, if any."""
    try:
        yield
    except (DbctlError, pymysql.Error) as error:
        reason = first or error
        message = reason.args[-1] if isinstance(reason, pymysql.Error) else reason
        raise RestoreUnfinishedError(target=server.target, reason=message) from error


def _recreate_code(
    server: RestoreServer,
    central: Session,
    database: str,
    script: bytes,
    timeout: float,
    *,
    keep_views: Sequence[str] = (),
) -> None:
    stored_code.drop_code(central, database, keep_views=keep_views)
    url = structs.replace(server.url, path=database)
    run_script([script], url, central.server, server.target, timeout=timeout, interruptible=False)


def rename_clauses(tables: Sequence[str], source: str, target: str) -> list[str]:
    return [f"{ident(source)}.{ident(name)} to {ident(target)}.{ident(name)}" for name in tables]


def rename_statement(tables: Sequence[str], source: str, target: str) -> str:
    return (
        f"rename table {', '.join(rename_clauses(tables, source, target))}"
        if tables
        else "select 'no tables'"
    )
