"""Sample users of Flashpoint Web, in both schemas of its database; each database is built once and copied."""

from __future__ import annotations

import atexit
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path

from dbctl.config.sections import Selection
from dbctl.model import now
from dbctl.services.backup.create import CreateBackup
from dbctl.services.backup.repository import Repository
from tests.in_process import run_command
from tests.shapes import flashpoint_web

ROOT = Path(__file__).parents[2]
SHAPES = ("document", "deployed")
#: Secrets that no command prints; tests search the output for them.
TOKEN = "aaaa-marked-token-" + "0" * 110
PASSWORD = flashpoint_web.PASSWORD

#: The configuration of the databases that ``copy_deployment`` creates.
CONFIGURATION = """\
[apps.arcade]
profile = "flashpoint-web"
[apps.arcade.databases]
user = "backend/user.db"
flashpoint = "Data/flashpoint.sqlite"
[apps.arcade.backup]
repository = "backups"
"""

_TEMP_FOLDER = tempfile.mkdtemp()
atexit.register(shutil.rmtree, _TEMP_FOLDER, ignore_errors=True)


@cache
def template(shape):
    """Return a database with root (admin), ann (active, with related rows) and bob (inactive)."""
    build = flashpoint_web.document_user_db if shape == "document" else flashpoint_web.deployed_user_db
    path = build(Path(_TEMP_FOLDER) / shape / "user.db")
    for name, role, active in (("root", 1, True), ("ann", 2, True), ("bob", 2, False)):
        flashpoint_web.add_user(path, name, role, active=active)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(f"""
            update users set created_at = '2024-01-05T08:00:00.000Z', updated_at = '2024-01-05T08:00:00.000Z';
            update users set last_login_at = '2025-02-03 04:05:06' where username = 'ann';
            update users set last_login_at = '2031-01-01T00:00:00.000Z' where username = 'root';
            insert into refresh_tokens (user_id, token, expires_at) values
                (2, '{TOKEN}1', '2099-01-01 00:00:00'), (2, '{TOKEN}2', '2020-01-01 00:00:00');
            insert into refresh_tokens (user_id, token, expires_at, revoked_at) values
                (2, '{TOKEN}3', '2099-01-01 00:00:00', '2025-01-01T00:00:00.000Z');
            insert into refresh_tokens (user_id, token, expires_at) values (1, '{TOKEN}4', '2099-01-01 00:00:00');
            insert into user_settings (user_id, setting_key, setting_value) values (2, 'theme_mode', 'light');
            insert into user_game_plays (user_id, game_id, session_id) values (2, 'g1', 's1'), (2, 'g2', 's2');
            insert into user_stats (user_id, total_sessions, first_play_at) values (2, 7, '2024-02-02T00:00:00.000Z')
                on conflict (user_id) do update set total_sessions = 7, first_play_at = excluded.first_play_at;
            insert into activity_logs (user_id, username, action, created_at) values
                (2, 'ann', 'login', '2025-01-01 10:00:00'), (2, 'ann', 'play.start', '2025-01-01T11:00:00.000Z');
            insert into login_attempts (username, ip_address, success) values
                ('ann', '10.0.0.1', 0), ('ANN', '10.0.0.2', 0), ('Ann@Example.org', '10.0.0.2', 0),
                ('bob', '10.0.0.2', 0), ('bob', '10.0.0.9', 0), ('ann', '10.0.0.1', 1);
        """)
    return path


def _format_past(days):
    """Return the time before a number of days, as the app stores it."""
    return (now() - timedelta(days=days)).isoformat("T", "milliseconds").replace("+00:00", "Z")


@cache
def _create_deployment():
    """Return a folder with both databases of the document, and rows in every table.

    The users are admin, morgan (moderator), demo, visitor (guest), quinn (locked out) and sasha (inactive, never signed in).
    """
    folder = Path(_TEMP_FOLDER) / "deployment"
    flashpoint_web.document_flashpoint_db(folder / "Data/flashpoint.sqlite", games=24)
    path = folder / "backend/user.db"
    path.parent.mkdir()
    words = [
        "migrate",
        "up",
        "--profile",
        "flashpoint-web",
        "--url",
        f"user={path}",
        "--variant",
        "document",
        "--quiet",
    ]
    migrated = run_command(words, environment={"HOME": str(folder)}, cwd=folder)
    assert migrated.returncode == 0, migrated.stderr
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript("""
            insert into roles (id, name, description, priority) values (4, 'moderator', 'Manages playlists', 70);
            insert into role_permissions (role_id, permission_id)
                select 4, id from permissions where name like 'playlists.%' or name in ('games.read', 'games.play', 'users.read');
        """)
    for name, role in {"admin": 1, "morgan": 4, "demo": 2, "visitor": 3, "quinn": 2, "sasha": 2}.items():
        flashpoint_web.add_user(path, name, role, active=name != "sasha")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.create_function("ago", 1, _format_past)
        connection.executescript("""
            update users set created_at = ago(200 - id), updated_at = ago(200 - id);
            update users set last_login_at = ago(id * 9) where username <> 'sasha';
            insert into refresh_tokens (user_id, token, created_at, expires_at, revoked_at)
                select id, printf('%0127d%d', id, age), ago(age), ago(age - 30), iif(age = 9, ago(8), null)
                from users, (select 70 as age union select 9 union select 2) where id < 5;
            insert into user_settings (user_id, setting_key, setting_value)
                select id, 'theme_mode', 'dark' from users where true on conflict do nothing;
            insert into login_attempts (username, ip_address, success, attempted_at)
                select upper(username), '203.0.113.66', 0, ago(n / 1000.0) from users,
                    (with recursive c(n) as (select 1 union all select n + 1 from c where n < 9) select n from c)
                where username = 'quinn';
            insert into login_attempts (username, ip_address, success, attempted_at)
                select username, '198.51.100.7', 1, ago(0.5) from users where id < 3;
            insert into user_game_plays (user_id, game_id, game_title, started_at, ended_at, duration_seconds, session_id)
                select 2 + n % 3, printf('00000000-0000-4000-8000-%012d', 1 + n % 4), 'Game ' || n % 4, ago(n + 2),
                    iif(n < 15, ago(n + 2 - 0.01), null), iif(n < 15, 864, null), 'session-' || n
                from (with recursive c(n) as (select 1 union all select n + 1 from c where n < 20) select n from c);
            insert into user_game_plays (user_id, game_id, game_title, started_at, session_id)
                values (3, '00000000-0000-4000-8000-000000000001', 'Game 0', ago(0.01), 'session-now');
            insert into user_game_stats
                (user_id, game_id, game_title, total_plays, total_playtime_seconds, first_played_at, last_played_at)
                select user_id, game_id, max(game_title), count(*), sum(duration_seconds), min(started_at), max(ended_at)
                from user_game_plays where ended_at is not null group by user_id, game_id;
            insert into user_stats
                (user_id, total_games_played, total_playtime_seconds, total_sessions, first_play_at, last_play_at, updated_at)
                select user_id, count(distinct game_id), sum(duration_seconds), count(*), min(started_at), max(ended_at), max(ended_at)
                from user_game_plays where ended_at is not null group by user_id;
            insert into activity_logs (user_id, username, action, resource, ip_address, created_at)
                select id, username, 'login', 'auth', '198.51.100.7', last_login_at from users where last_login_at is not null;
            insert into activity_logs (username, action, resource, created_at) values ('former.member', 'logout', 'auth', ago(20));
            update system_settings set value = 'Sample Arcade', updated_at = ago(40), updated_by = 1 where key = 'siteName';
        """)
    return folder


def copy_deployment(folder):
    """Copy both databases of the document, with users, into ``folder``: ``backend/user.db`` and ``Data/flashpoint.sqlite``."""
    shutil.copytree(_create_deployment(), folder, dirs_exist_ok=True)


def copy_configured_deployment(folder):
    """Copy both databases of the document, with users and a configuration, into ``folder``."""
    copy_deployment(folder)
    (folder / "dbctl.toml").write_text(CONFIGURATION, encoding="utf-8")


@cache
def _create_quick_profile():
    """Return Flashpoint Web's profile with the lowest hash cost, for fast tests."""
    default = (ROOT / "dbctl/profiles/builtin/flashpoint-web.toml").read_text(encoding="utf-8")
    text = default.replace("$2b$10$", "$2b$04$")
    assert text != default
    path = Path(_TEMP_FOLDER) / "quick.toml"
    path.write_text(text, encoding="utf-8")
    return path


def create_app(folder, shape, *, protected=False):
    """Create a copy of the template and its configuration in ``folder``; return the path of the database."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(template(shape), folder / "user.db")
    shutil.copyfile(_create_quick_profile(), folder / "quick.toml")
    (folder / "dbctl.toml").write_text(
        f'[apps.fp]\nprofile = "{folder / "quick.toml"}"\nprotected = {str(protected).lower()}\n'
        '[apps.fp.databases]\nuser = "user.db"\n',
        encoding="utf-8",
    )
    return folder / "user.db"


def create_valid_app(folder, shape):
    """Create a deployment without problems in ``folder``: modes, migrations, a backup, no expired rows."""
    path = create_app(folder, shape)
    file = "001_complete_schema" if shape == "deployed" else "001_user-schema"
    (folder / "migrations").mkdir()
    shipped = flashpoint_web.MIGRATIONS.parent / shape / f"{file}.sql"  # the app has published this text
    shutil.copy(shipped, folder / "migrations")
    if shape == "document":
        run_statements(
            path,
            "create table migrations (id integer primary key, name text, applied_at text)",
            f"insert into migrations (name, applied_at) values ('{file}', '2026-01-01T00:00:00.000Z')",
        )
    run_statements(path, "delete from refresh_tokens where expires_at < '2090' or revoked_at is not null")
    run_statements(path, "delete from activity_logs")
    config = (folder / "dbctl.toml").read_text().replace(str(folder / "quick.toml"), "quick.toml")
    config += '[apps.fp.migrations]\nuser = "migrations"\n[apps.fp.backup]\nrepository = "backups"\n'
    (folder / "dbctl.toml").write_text(config)
    folder.chmod(0o755)
    path.chmod(0o600)
    (folder / "dbctl.toml").chmod(0o600)
    with open_app(path) as app:
        CreateBackup(Repository(app)).apply()
    return path


LARDER = """
schema = "dbctl.profile/1"
name = "larder"
title = "Larder"
time = "epoch-ms"
[databases.main]
engines = ["sqlite"]
[users]
table = "members"
id = { column = "member_uuid", codec = "uuid4" }
login = ["username", "email"]
admin = "chief"
password = { column = "secret_hash", writes = "$2b$04$" }
role = { column = "kind", values = ["cook", "chief", "guest"], default = "guest" }
fields = { username = "handle", email = "mail", active = "enabled", created_at = "joined_ms", updated_at = "changed_ms", last_login_at = "seen_ms" }
[[users.signed_in]]
table = "member_logins"
user = "member_uuid"
expires_at = "ends_ms"
"""


def create_larder(folder):
    """Create an app with a custom profile in ``folder``; return the path of its database."""
    path = flashpoint_web.larder_db(folder / "larder.db")
    (folder / "larder.toml").write_text(LARDER, encoding="utf-8")
    (folder / "dbctl.toml").write_text(
        f'[apps.larder]\nprofile = "{folder / "larder.toml"}"\n[apps.larder.databases]\nmain = "larder.db"\n',
        encoding="utf-8",
    )
    return path


@contextmanager
def open_app(path):
    """Open the app whose configuration is next to the database at ``path``."""
    from dbctl.services.app.session import open_app

    with open_app(Selection(config=str(path.with_name("dbctl.toml"))), timeout=5) as app:
        yield app


def query_rows(path, sql, *parameters):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql, parameters).fetchall()


def run_statements(path, *statements):
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def run_script(path, sql):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(sql)


@contextmanager
def open_in_process(path, *statements):
    """Run statements in another process, which keeps the database open."""
    code = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nfor s in sys.argv[2:]: c.execute(s).fetchall()\nprint('ready', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", code, str(path), *statements]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


def snapshot(folder):
    """Return the content and the times of every file."""
    return {
        path.name: (path.stat().st_mtime_ns, path.stat().st_ino, path.is_file() and path.read_bytes())
        for path in [folder, *folder.iterdir()]
    }


def read_all_rows(path):
    """Return every row of every table, to show that nothing changed."""
    with closing(sqlite3.connect(path)) as connection:  # one for all: each new one reads the schema again
        names = connection.execute(
            "select name from sqlite_master where type = 'table' order by name"
        ).fetchall()
        return {
            name: connection.execute(f'select * from "{name}" order by rowid').fetchall() for (name,) in names
        }


def drop_nocase(path):
    """Rebuild ``users`` without NOCASE and UNIQUE, so that names may differ only in case."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (sql,) = connection.execute("select sql from sqlite_master where name = 'users'").fetchone()
        indexes = connection.execute(
            "select sql from sqlite_master where tbl_name = 'users' and type = 'index' and sql not null and sql not like '%unique%'"
        ).fetchall()
        plain = sql.replace("COLLATE NOCASE", "").replace("collate nocase", "").replace("UNIQUE", "")
        connection.executescript(
            f"pragma foreign_keys = off; pragma legacy_alter_table = on; alter table users rename to old; {plain};"
            f"insert into users select * from old; drop table old; {';'.join(statement for (statement,) in indexes)}"
        )


def catch_error(error, call):
    """Return the error of class ``error`` that ``call`` raises."""
    try:
        call()
    except error as raised:
        return raised
    raise AssertionError(f"{error.__name__} was not raised")
