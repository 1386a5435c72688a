"""Each command declares the facts of a profile by which it writes, and opens no database for writing otherwise."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from datetime import datetime

import pytest

from dbctl.cli.main import main
from dbctl.config.sections import Selection
from dbctl.profiles.loader import load, read
from dbctl.services.app.live_table import LiveTable
from dbctl.services.app.user_table import UserSelector
from dbctl.services.restore.tables import RESTORED_TABLE
from dbctl.spec import FACTS, CommandSpec, Write
from tests import examples
from tests.cli.test_effects import MORE_LINES
from tests.cli.test_reference import EXAMPLES, app_folder, deployment, receiver, split_line
from tests.services import flashpoint_app
from tools.reference import read_specs

__all__ = ["app_folder", "deployment", "receiver"]

#: How commands write, by name, and a part of one with another meaning.
WRITES = {name: spec.writes for name, spec in read_specs().items() if spec.writes} | {
    "restore apply --table": RESTORED_TABLE
}

#: Commands of the purposes, in addition to those of other tests, after what gives them something to do. ``{user}`` is signed in.
FURTHER_LINES = [
    "users ensure {user} --email eve@example.net --role guest --generate",
    "users update {user} --email eve@example.net",
    "users update {user} --set active=no",
    "users set-role {user} guest",
    "users set-password {user} --generate",
    "users deactivate {user}",
    "SQL update users set is_active = 0 where username = '{user}' && users activate {user}",
    "data add login_attempts username={user} ip_address=10.0.0.7 && users unlock {user}",
    "sessions revoke {user}",
    "data set refresh_tokens expires_at=2020-01-01T00:00:00.000Z --filter id>0 --yes && sessions cleanup",
    "data delete user_stats --filter user_id>0 --yes && sessions rebuild-stats --yes",
    "data replace a b --table activity_logs --yes",
    "data set login_attempts username=ann --filter id>0 --yes && restore apply latest --table login_attempts --merge replace --yes",
    "restore apply latest --yes && restore undo --yes",
    "migrate mark 2 --pending",
    "SQL delete from migrations && migrate baseline",
    "migrate reset --yes",
    "SQL update migrations set name = '099_gone' where id = 4 && migrate repair 099_gone --missing",
]
#: Purposes whose rows are those of the user, of a backup or of a migration: facts about other tables have no part in them.
FACTS_OF_ANY_ROWS = {
    "data": {"audit"},
    "restore": {"audit"},
    "undo": {"audit"},
    "migrate": {"audit", "ledger"},
    "transfer": set(),
}
#: What commands compare only if they have an option that uses it.
FACTS_OF_OPTIONS = {"users create": {"setting-times"}}
CREW = """\
schema = "dbctl.profile/1"
name = "crew"
title = "Crew"
[databases.main]
engines = ["sqlite"]
updated_at = "changed?"
[users]
table = "people"
id = { column = "id", codec = "given" }
login = ["nick"]
admin = "captain"
role = { members = { table = "people_ranks", user = "person_id", role = "rank_id", roles = { table = "ranks" } } }
[users.fields]
nick = "nick"
updated_at = "changed"
[[users.second_factor]]
name = "totp"
table = "people"
user = "id"
on_reset = { code = ":null" }
[[users.signed_in]]
table = "tokens"
user = "person_id"
on_end = { ended = ":now" }
[audit]
table = "actions"
fields = { at = "at", action = "action" }
"""
CREW_SCHEMA = """\
create table people (id integer primary key, nick text not null unique, changed text, code text);
create table ranks (id integer primary key, name text not null);
create table people_ranks (person_id integer not null, rank_id integer not null, primary key (person_id, rank_id));
create table tokens (id integer primary key, person_id integer not null, ended text);
create table actions (id integer primary key, at text, action text not null);
insert into people values (1, 'ada', '2026-01-01T00:00:00.000Z', null), (2, 'bob', '2026-01-01T00:00:00.000Z', 'secret');
insert into ranks values (1, 'captain'), (2, 'sailor'), (3, 'cook');
insert into people_ranks values (1, 1), (2, 2), (2, 3);
insert into tokens values (1, 2, null), (2, 1, '2026-01-01T00:00:00.000Z');
"""


def test_command_that_does_not_declare_it_cannot_write(tmp_path):
    """Neither with a writer nor in a plan; without a command, the strictest declaration applies."""
    from dbctl.services.app.session import open_app
    from dbctl.services.users.delete import delete_users

    path, spec = (
        flashpoint_app.create_app(tmp_path, "document"),
        CommandSpec(name="users list", answers=tuple),
    )
    with open_app(Selection(config=str(path.with_name("dbctl.toml"))), timeout=1, spec=spec) as app:
        change = delete_users(app, UserSelector(logins=["ann"]))
        with pytest.raises(ValueError, match="users list"), app.writer("user"):
            pass
        with pytest.raises(ValueError, match="users list"):
            change.plan()
    with flashpoint_app.open_app(path) as app:
        assert app.declared_write == Write(source="input", facts=FACTS, undo=True)


def read_tables(folder):
    """Return the rows of each table by rowid, as values by column."""
    tables = {}
    for path in [*folder.glob("*/*.db"), *folder.glob("*.db")]:
        with closing(sqlite3.connect(path)) as connection:
            connection.row_factory = sqlite3.Row
            names = [row[0] for row in connection.execute("select name from sqlite_schema where type = 'table' and sql not like '%without rowid%'")]  # fmt: skip
            for name in names:
                rows = connection.execute(f'select rowid as "rowid", * from "{name}"').fetchall()
                tables[path, name] = {row[0]: dict(zip(row.keys()[1:], row[1:], strict=True)) for row in rows}
    return tables


def list_written_columns(before, after):
    """Yield ``insert``, ``update`` or ``delete``, the table, and the column of each value that was written."""
    for place, rows in after.items():
        for key, row in rows.items():
            old = before.get(place, {}).get(key)
            for column, value in row.items():
                if old is None and value is not None:
                    yield "insert", place[1], column
                elif old is not None and old.get(column) != value:
                    yield "update", place[1], column
        if before.get(place, {}).keys() - rows.keys():
            yield "delete", place[1], ""


def derive_facts(profile, written):
    """Return the facts of which these values are a part."""
    users, roles, settings = profile.users, profile.roles, [section.table for section in profile.settings]
    sections = {section.table: section.fields for section in (users, roles, *profile.settings) if section}
    ends = {
        (section.table, column.removesuffix("?")) for section in users.signed_in for column in section.on_end
    }
    facts = set()
    for change, table, column in written:
        field = {name.removesuffix("?"): field for field, name in sections.get(table, {}).items()}.get(column)
        is_time = field in {"created_at", "updated_at"}
        event = "created" if change == "insert" else "updated"
        facts |= {
            fact
            for fact, is_written in {
                "user-key": table == users.table and change == "insert" and column == users.id.column,
                "active": table == users.table and field == "active",
                f"user-{event}": table == users.table and is_time,
                "role-key": roles and table == roles.table and change == "insert" and column == roles.key,
                f"role-{event}": roles and table == roles.table and is_time,
                "permission-link": roles and table == roles.permissions.link.table and change == "insert",
                "setting-times": table in settings and is_time,
                "sign-out": (table, column) in ends,
                "audit": table == profile.audit.table and change == "insert",
                "ledger": table in {"migrations", "schema_migrations"},
            }.items()
            if is_written
        }
    return facts


def list_facts(profile):
    """Return, by table and column, the facts about the values that a command encodes for it: one of them must be declared."""
    users, roles, facts = profile.users, profile.roles, {}
    sections = [("user", users), ("role", roles), *(("setting", section) for section in profile.settings)]
    for kind, section in sections:
        for field, name in section.fields.items() if section else ():
            if field in ("created_at", "updated_at"):
                events = {"user": {"user-created"}, "role": {"role-created"}, "setting": {"setting-times"}}[
                    kind
                ]
                events |= {f"{kind}-updated"} if field == "updated_at" and kind != "setting" else set()
                facts[section.table, name.removesuffix("?")] = events
            elif kind == "user" and field == "active":
                facts[section.table, name.removesuffix("?")] = {"active"}
    for section in users.signed_in:
        facts |= {
            (section.table, name.removesuffix("?")): {"sign-out"}
            for name, value in section.on_end.items()
            if value == ":now"
        }
    facts[profile.audit.table, profile.audit.fields["at"].removesuffix("?")] = {"audit"}
    return facts


@contextmanager
def trace_encoded_columns():
    """Yield the tables and columns for which ``LiveTable.encode`` applies the profile: to write a value, or to compare it."""
    columns, encode = set(), LiveTable.encode

    def record(table, column, value, *, typed=None):
        if isinstance(value, (datetime, bool)):
            columns.add((table.name, column))
        return encode(table, column, value, typed=typed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LiveTable, "encode", record)
        yield columns


#: Commands that Flashpoint Web lacks, and their arguments.
ARGUMENTS = {
    "users add-role": ["bob", "captain"],
    "users remove-role": ["bob", "sailor"],
    "users reset-2fa": ["bob"],
}


def list_lines(purpose):
    command, _, option = purpose.partition(" --")
    return [
        line
        for line in dict.fromkeys([*EXAMPLES, *MORE_LINES, *FURTHER_LINES])
        if f"{line.rpartition(' && ')[2]} ".startswith(f"{command} ")
        and (not option or f"--{option} " in line)
        and not any(word in line for word in ("--dry-run", "--check", "--into"))
    ]


def fill(line, folder):
    with closing(sqlite3.connect(folder / "backend/user.db")) as connection:
        (user,) = connection.execute(
            "select username from users join refresh_tokens t on t.user_id = users.id where role_id <> 1 and is_active"
        ).fetchone()
    return line.replace("{user}", user)


def run_line(line, folder):
    """Run the commands of a line; return the facts that the last one writes, and the columns for which it encodes values."""
    for part in line.split(" && "):
        before = read_tables(folder)
        if part.startswith("SQL "):
            with closing(sqlite3.connect(folder / "backend/user.db")) as connection, connection:
                connection.execute(part.removeprefix("SQL "))
        else:
            with trace_encoded_columns() as encoded:
                assert main([*split_line(part, folder), "--quiet"]) == 0, part
    return derive_facts(load("flashpoint-web"), list_written_columns(before, read_tables(folder))), encoded


@pytest.mark.parametrize("deployment", ["document"], indirect=True)
@pytest.mark.parametrize("purpose", [name for name in WRITES if name not in ARGUMENTS])
def test_declared_facts_are_those_that_the_command_uses(purpose, deployment, tmp_path, monkeypatch):
    """A fact that is used is declared, and a declared one is used, also if the command declares none."""
    written, encoded, declared = set(), set(), {*WRITES[purpose].facts}
    for number, line in enumerate(list_lines(purpose)):
        folder = tmp_path / str(number) / deployment.name
        examples.copy_deployment(deployment, folder)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DBCTL_STATE", str(folder / "state"))
        written_facts, columns = run_line(fill(line, folder), folder)
        written, encoded = written | written_facts, encoded | columns
    relevant, facts = FACTS_OF_ANY_ROWS.get(purpose.split()[0], {*FACTS}), list_facts(load("flashpoint-web"))
    used = [facts[column] & relevant for column in encoded & facts.keys()]
    certain = {fact for of_column in used if len(of_column) == 1 for fact in of_column}
    declared |= FACTS_OF_OPTIONS.get(purpose, set())
    assert written & relevant | certain == declared
    assert all(of_column & declared for of_column in used if of_column)


@pytest.mark.parametrize("purpose", ARGUMENTS)
def test_declared_facts_of_further_commands_are_those_that_they_write(purpose, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crew.toml").write_text(CREW, encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "crew.db")) as connection:
        connection.executescript(CREW_SCHEMA)
    before = read_tables(tmp_path)
    assert (
        main(
            [
                *purpose.split(),
                *ARGUMENTS[purpose],
                "--profile",
                "crew.toml",
                "--url",
                "main=crew.db",
                "--quiet",
                "--yes",
            ]
        )
        == 0
    )
    written = derive_facts(read(tmp_path / "crew.toml"), list_written_columns(before, read_tables(tmp_path)))
    assert written == {*WRITES[purpose].facts}
