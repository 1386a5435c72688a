"""Load dumps into databases that are dropped again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial

import pymysql
from msgspec import structs

from dbctl import signals
from dbctl.engines.contract.dumps import DumpVerification, LoadRequest
from dbctl.engines.mysql import locks
from dbctl.engines.mysql.backup import stored_code
from dbctl.engines.mysql.backup.accounts import AccountChanges
from dbctl.engines.mysql.backup.foreign import scratch_role
from dbctl.engines.mysql.backup.foreign import stored_code as foreign
from dbctl.engines.mysql.backup.load import load_dump
from dbctl.engines.mysql.backup.restore_server import DATABASES, TABLES, RestoreServer, create_statement
from dbctl.engines.mysql.connection.session import Session
from dbctl.engines.mysql.database import MySQLReader
from dbctl.engines.mysql.errors import error_number
from dbctl.engines.mysql.schema import MySQLSchemaReader
from dbctl.engines.servers.database import (
    RETAINED_SUFFIX,
    UNCHANGED,
    derived_name,
    new_scratch_name,
    scratch_name_pattern,
)
from dbctl.engines.sql.catalog import ident
from dbctl.engines.sql.checks import digest_tables, require_loaded_rows
from dbctl.errors.connection import PrivilegeMissingError, UnreachableError
from dbctl.errors.restore import DumpOverreachesError, ForeignDumpRefusedError
from dbctl.url import Url

VERSIONED = """select table_name from information_schema.tables
where table_schema = {} and table_type = 'SYSTEM VERSIONED' order by 1"""
MAY_NOT_CREATE = 1044
#: The setting that allows triggers and functions with a binary log; the server names it if it rejects them.
TRUSTING = "log_bin_trust_function_creators"


@contextmanager
def create_scratch_database(
    server: RestoreServer, central: Session, request: LoadRequest, remarks: list[str]
) -> Iterator[Url]:
    """Create a database, and drop it at the end; leftovers of killed processes are dropped, too.

    A foreign dump gets a scratch user, which is dropped as well. ``remarks`` gets what could not be dropped.
    """
    pattern = re.compile(scratch_name_pattern(server.name))
    for (leftover,) in central.run(DATABASES):
        lock = locks.acquire_sql(locks.lock_name(str(leftover)))
        if pattern.search(str(leftover)) and central.run(lock) == [(1,)]:
            remarks += scratch_role.remove(central, str(leftover))
    for account in list(scratch_role.list_abandoned(central)):
        with suppress(pymysql.Error):
            central.run(f"drop user {account}")
    name = new_scratch_name(server.name)
    central.run(locks.acquire_sql(locks.lock_name(name)))
    try:
        central.run(create_statement(name, request.dump.metadata))
    except pymysql.Error as error:
        if error_number(error) != MAY_NOT_CREATE:
            raise
        grant_pattern = derived_name(server.name, RETAINED_SUFFIX).replace("_", "\\_")
        hint = f"As an administrator: GRANT ALL ON `{grant_pattern}%`.* TO {central.account};"
        reason = f"{central.account} may not create databases next to it"
        if request.dump.foreign:
            raise ForeignDumpRefusedError(target=server.target, reason=reason, hint=hint) from error
        hint = f"Nothing was changed. {hint}"
        raise PrivilegeMissingError(target=server.target, reason=reason, hint=hint) from error
    url, prepared = structs.replace(server.url, path=name), None
    try:
        if request.dump.foreign:
            prepared = scratch_role.list_prepared(central)
            user, password = scratch_role.create_user(central, name, server.target)
            url = structs.replace(url, user=user, password=password)
            scratch_role.require_confined(url, server.target, timeout=request.timeout)
        yield url
    finally:
        with signals.block_signals(), suppress(pymysql.Error):
            remarks += scratch_role.remove(central, name, prepared)


def load_scratch_database(
    server: RestoreServer, central: Session, url: Url, request: LoadRequest, accounts: AccountChanges
) -> DumpVerification:
    """Load a dump into a new database, and compare its rows, as the user of ``url``."""
    name, dump, target = url.path, request.dump, server.target
    rewrite = (
        partial(foreign.remove_definers, target=target) if dump.foreign else accounts.make_filter(target)
    )
    try:
        load_dump(request, url, central.server, target, rewrite=rewrite)
        with closing(MySQLReader(url, target, timeout=request.timeout)) as reader:
            tables = stored_code.list_names(central, TABLES, name)
            row_counts = {table: reader.count(table) for table in tables if table in reader.tables()}
            for table in stored_code.list_names(central, VERSIONED, name):
                row_counts[table] = stored_code.count_versions(central, name, table)
            fingerprint = MySQLSchemaReader(reader).fingerprint()
            content = digest_tables(reader, {table: dump.tables[table] for table in dump.digests})
    except (PrivilegeMissingError, UnreachableError) as error:
        if not dump.foreign or not central.open:
            raise
        reason = error.context["reason"]
        hint = (
            f"To allow its triggers and functions: SET GLOBAL {TRUSTING} = 1."
            if TRUSTING in str(reason)
            else ""
        )
        raise DumpOverreachesError(target=target, reason=reason, hint=hint) from error
    require_loaded_rows(dump, row_counts, content, target=target, hint=UNCHANGED)
    if row_counts:
        central.run(f"analyze table {', '.join(f'{ident(name)}.{ident(table)}' for table in row_counts)}")
    return DumpVerification(tables=row_counts, schema=fingerprint, problems=(), digests=content)
