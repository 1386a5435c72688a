"""The schema of the event store: migrations of sqlite-utils, which is imported only when a store is created or upgraded."""

from __future__ import annotations

import secrets
import sqlite3

from dbctl.sqlite_library import Database, Migrations

migrations = Migrations("dbctl.events")

#: SQL, because the library has no keys without a rowid, no ids that are never used twice, and no index with a condition.
_FIRST = """
create table meta (name text primary key, value text not null) without rowid;
create table runs (
    id integer primary key autoincrement,
    command text not null,
    result text not null,
    failed integer not null,
    started_at text not null,
    record blob not null  -- JSON of Run
);
create index runs_command on runs (command, id);
create index runs_failed on runs (command, id) where failed;
create index runs_started on runs (started_at);
create index runs_running on runs (id) where result = 'running';
create table outcomes (
    config text not null,
    app text not null,
    command text not null,
    run integer not null,
    exit_code integer,  -- null: no result
    error_code text not null,
    failed integer not null,  -- 0, 1, or 2: as a job
    primary key (config, app, command, run)
) without rowid;
create index outcomes_run on outcomes (run);
create index outcomes_app on outcomes (app, command, run);
create index outcomes_failed on outcomes (app, command, run) where failed;
create table changes (
    seq integer primary key,
    hash text not null,
    kind text not null,  -- start, intent or outcome
    time text not null,
    operation integer not null,
    undoes integer,
    app text not null,
    command text not null,
    record blob not null  -- canonical JSON, which contains the other columns
);
create index changes_operation on changes (operation);
create index changes_undoes on changes (undoes) where undoes is not null;
create index changes_intents on changes (app, command, time) where kind = 'intent';
create table samples (
    id integer primary key,
    config text not null,
    app text not null,
    database text not null,
    taken_at text not null,
    record blob not null  -- JSON of Sample
);
create index samples_key on samples (config, app, database, id, taken_at);
create table notices (
    config text not null,
    app text not null,
    subject text not null,
    channel text not null,
    code text not null,
    sent_at text not null,
    primary key (config, app, subject, channel)
) without rowid;
create table progress (
    fleet text not null,
    command text not null,
    arguments text not null,  -- their hash
    instance text not null,  -- empty: the run itself
    at text not null,
    primary key (fleet, command, arguments, instance)
) without rowid;
"""


@migrations()
def first(db: Database) -> None:
    """Create the tables, and the random id by which a replaced store is recognized."""
    for statement in filter(str.strip, _FIRST.split(";")):
        db.execute(statement)
    for statement in ("update", "delete"):  # against accidents: who may write the file can drop a trigger
        db.execute(
            f"create trigger changes_{statement} before {statement} on changes "
            "begin select raise(abort, 'records of changes are only appended'); end"
        )
    db.execute("insert into meta values ('store', ?)", [secrets.token_hex(8)])


def upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Apply the migrations that a store does not have, in the transaction of the caller, and set its version."""
    migrations.apply(Database(connection, recursive_triggers=False, execute_plugins=False))
    connection.execute(f"pragma user_version = {version}")
