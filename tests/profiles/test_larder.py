"""An app without built-in support: every command works with only a profile."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import time
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.engines.mysql.dialect import PROCESSES
from dbctl.profiles import loader
from dbctl.profiles.codecs import read_time
from dbctl.url import Url
from tests import servers
from tests.caching import mysql_database
from tests.in_process import CLEAN_ENVIRONMENT
from tests.services.larder_app import fill_mysql
from tests.shapes import flashpoint_web

ROOT = Path(__file__).parents[2]
PROFILE = Path(__file__).with_name("larder.toml")
SCRIPTS = {
    "sqlite": ROOT / "tests/shapes/larder.sql",
    "postgresql": ROOT / "tests/shapes/larder_postgresql.sql",
    "mysql": ROOT / "tests/shapes/larder_mysql.sql",
}
MADE_BY = {
    engine: path.read_text(encoding="utf-8").partition("INSERT")[0] for engine, path in SCRIPTS.items()
}
LEDGER = """
[databases.pantry.migrations.ledger]
table = "steps"
name = "step"
applied_at = "done_ms"
create = "create table steps (step varchar(190) not null primary key, done_ms bigint not null)"
"""
PIP, ANA = (f"a1b7c0de-0000-4000-8000-00000000000{number}" for number in (1, 2))


RYE = "b2c8d1ef-0000-4000-8000-000000000002"
OLAV = "a1b7c0de-0000-4000-8000-000000000004"


class Shelf:
    """The database of Larder in a file."""

    engine = "sqlite"
    made_by = MADE_BY["sqlite"]

    def empty(self) -> None:
        self.path.unlink()

    def __init__(self, folder: Path) -> None:
        self.path = flashpoint_web.larder_db(folder / "larder.db")
        self.url = str(self.path)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("pragma ignore_check_constraints = on")
            return connection.execute(sql).fetchall()


class ServedShelf:
    """The database of Larder on a server."""

    engine = "postgresql"
    made_by = MADE_BY["postgresql"]
    #: The query that counts the sessions that wait for a lock.
    waiting = "select count(*) from pg_locks where not granted and pid in (select pid from pg_locks where relation = 'members'::regclass)"

    def empty(self) -> None:
        ((schema,),) = self.rows("select current_schema()")
        self.rows(f"drop schema {schema} cascade")
        self.rows(f"create schema {schema}")

    def __init__(self, url: Url) -> None:
        self.url = servers.text(url)
        self._connection = servers.connection(url)
        script = SCRIPTS["postgresql"].read_text(encoding="utf-8")
        self._connection.execute(script.replace(":password_hash", f"'{flashpoint_web.PASSWORD_HASH}'"))

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        result = self._connection.execute(sql)
        return result.fetchall() if result.description else []

    def close(self) -> None:
        self._connection.close()


class MySQLShelf:
    """The database of Larder on MySQL or MariaDB; ``larder_app.fill_mysql`` creates its tables and rows."""

    engine = "mysql"
    made_by = MADE_BY["mysql"]
    waiting = f"""select count(*) from information_schema.innodb_trx t join {PROCESSES} p
      on p.id = t.trx_mysql_thread_id where t.trx_state = 'LOCK WAIT' and p.db = database()"""

    def empty(self) -> None:
        ((name,),) = self.rows("select database()")
        self.rows(f"drop database {name}")
        self.rows(f"create database {name} character set utf8mb4")
        self.rows(f"use {name}")

    def __init__(self, url: Url) -> None:
        self.url = servers.text(url)
        self._connection = servers.mysql_connection(url)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def pantry(request, tmp_path):
    if request.param == "sqlite":
        yield Shelf(tmp_path)
    elif request.param == "mysql":
        with mysql_database(fill_mysql) as url, closing(MySQLShelf(url)) as shelf:
            yield shelf
    else:
        with servers.postgresql_schema() as url, closing(ServedShelf(url)) as shelf:
            yield shelf


@pytest.fixture
def quick(tmp_path):
    """Write the profile with the lowest cost of password hashes, for fast tests."""
    path = tmp_path / "quick.toml"
    path.write_text(PROFILE.read_text(encoding="utf-8").replace("$2b$10$", "$2b$04$"), encoding="utf-8")
    return path


@pytest.fixture
def dbctl(pantry, quick, start):
    """Return a function that runs a command and returns its data, or its error if the expected status is not 0."""

    def run(*words, stdin="", status=0):
        app = ["--profile", quick, "--url", f"pantry={pantry.url}", "-o", "json"]
        result = start(*app, *words, environment=CLEAN_ENVIRONMENT, stdin=stdin.encode())
        assert result.returncode == status, result.stderr
        output = json.loads(result.stdout)
        return output["data"] if status == 0 else output["error"] or output["data"]

    return run


@pytest.mark.slow
def test_no_module_mentions_app():
    for path in (ROOT / "dbctl").rglob("*.py"):
        assert not re.search(
            r"larder|member_uuid|secret_hash|val_kind", path.read_text(encoding="utf-8"), re.IGNORECASE
        )


def test_profile_and_database_agree(dbctl, pantry):
    assert dbctl("apps", "check", str(PROFILE))["findings"] == []
    assert dbctl("apps", "check")["findings"] == []
    assert dbctl("apps", "show", str(PROFILE))["features"] == [
        "users",
        "passwords",
        "roles",
        "settings",
        "search",
        "cleanup",
        "audit",
        "statistics",
        "cross checks",
        "reports",
        "states",
    ]
    assert loader.load(str(PROFILE)).title == "Larder"


def test_users_are_listed_filtered_sorted_and_shown(dbctl):
    users = dbctl("users", "list")["items"]
    assert [(user["login"], user["role"], user["active"]) for user in users] == [
        ("pip", "chief", True),
        ("ana", "cook", True),
        ("木下", "cook", True),
        ("olav", "guest", False),
    ]
    assert users[0] | {"id": PIP, "last_login_at": "2025-06-15T15:06:40.123Z"} == users[0]
    cooks = dbctl("users", "list", "--role", "cook", "--sort", "-created_at")["items"]
    assert [user["login"] for user in cooks] == ["木下", "ana"]
    assert [user["login"] for user in dbctl("users", "list", "--never-signed-in")["items"]] == [
        "木下",
        "olav",
    ]
    assert [user["login"] for user in dbctl("users", "list", "--inactive", "1d")["items"]] != []
    output = dbctl("users", "show", "ANA@larder.example")
    assert (output["login"], output["tokens"]) == ("ana", {"valid": 1, "expired": 1, "revoked": 0})


def test_users_are_created_changed_and_deleted(dbctl, pantry):
    created = dbctl(
        "users",
        "create",
        "mo",
        "--email",
        "mo@x.example",
        "--role",
        "cook",
        "--password-stdin",
        stdin="pass word 1\n",
    )
    assert uuid.UUID(created["user"]["id"]).version == 4
    ((joined, kind, enabled),) = pantry.rows(
        "select joined_ms, kind, enabled from members where handle = 'mo'"
    )
    assert (type(joined), kind, enabled) == (int, "cook", 1)
    assert read_time(joined).isoformat(timespec="milliseconds")[:23] == created["user"]["created_at"][:23]
    assert dbctl("users", "check-password", "mo", "--password-stdin", stdin="pass word 1\n")["matches"]
    dbctl(
        "users",
        "create",
        "MO",
        "--email",
        "m2@x.example",
        "--password-stdin",
        stdin="pass word 1\n",
        status=6,
    )
    dbctl(
        "users", "create", "m", "--email", "m2@x.example", "--password-stdin", stdin="pass word 1\n", status=2
    )
    assert dbctl("users", "ensure", "mo", "--role", "cook")["changed"] is False
    assert dbctl("users", "update", "mo", "--email", "mo2@x.example")["users"][0]["email"] == "mo2@x.example"
    assert dbctl("users", "set-role", "mo", "GUEST")["users"][0]["role"] == "guest"
    dbctl("users", "set-role", "mo", "wizard", status=5)
    assert dbctl("users", "deactivate", "mo")["users"][0]["active"] is False
    assert dbctl("users", "activate", "mo", "olav")["changed"] == 2
    assert dbctl("users", "delete", "ana", "--yes")["rows"] == {
        "members": 1,
        "member_logins": 2,
        "recipes": 2,
        "recipe_labels": 4,
        "order": 2,
    }
    assert dbctl("integrity", "check")["findings"] == []
    assert pantry.rows("select count(*) from recipe_labels") == [(1,)]


def test_new_password_ends_sessions(dbctl, pantry):
    dbctl("users", "set-password", "ana", "--password-stdin", stdin="another one\n")
    assert pantry.rows(f"select token from member_logins where member_uuid = '{ANA}'") == []
    dbctl("users", "check-password", "ana", "--password-stdin", stdin="another one\n")
    dbctl("users", "check-password", "ana", "--password-stdin", stdin=flashpoint_web.PASSWORD, status=1)


def test_last_admin_cannot_be_removed(dbctl):
    for arguments in (["deactivate", "pip"], ["set-role", "pip", "cook"], ["delete", "pip", "--yes"]):
        assert dbctl("users", *arguments, status=6)["code"] == "last-admin"
    dbctl("users", "set-role", "ana", "chief")
    dbctl("users", "deactivate", "pip")


@pytest.mark.parametrize("pantry", ["postgresql", "mysql"], indirect=True)  # SQLite has only one writer
def test_last_admin_cannot_be_removed_during_concurrent_demotion(pantry, quick):
    pantry.rows("update members set kind = 'chief' where handle = 'ana'")
    pantry.rows("begin")
    pantry.rows("update members set kind = 'cook' where handle = 'ana'")
    arguments = [
        "--profile",
        quick,
        "--url",
        f"pantry={pantry.url}",
        "--timeout",
        "60",
        "users",
        "deactivate",
        "pip",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "dbctl", *arguments], env=CLEAN_ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    with process:
        while pantry.rows(pantry.waiting) == [(0,)]:
            assert process.poll() is None
            time.sleep(0.2)  # MariaDB caches the result for 0.1 s after each query
        pantry.rows("commit")
        stderr = process.stderr.read()
    # It waits for the lock, and repeats its transaction if the server reports a conflict.
    assert (process.returncode, "no active 'chief' left" in stderr) == (6, True), stderr
    assert pantry.rows("select handle from members where kind = 'chief' and enabled") == [("pip",)]


def test_users_are_exported_and_imported(dbctl, tmp_path):
    assert {user["handle"] for user in dbctl("users", "export")["items"]} == {"pip", "ana", "木下", "olav"}
    (tmp_path / "in.csv").write_text(
        "handle,email,role\nzoe,zoe@x.example,cook\nyan,yan@x.example,\n", encoding="utf-8"
    )
    result = dbctl("users", "import", str(tmp_path / "in.csv"), "--generate")
    assert result["added"] == 2
    assert dbctl("users", "show", "yan")["role"] == "guest"


def test_missing_features_are_reported(dbctl):
    assert dbctl("users", "unlock", "ana", status=2)["code"] == "feature-missing"
    assert dbctl("settings", "list", "--user", "ana", status=2)["code"] == "feature-missing"
    assert dbctl("migrate", "status", status=2)["code"] == "feature-missing"
    assert dbctl("roles", "matrix", status=2)["code"] == "feature-missing"


def test_roles_are_listed_but_cannot_be_changed(dbctl, pantry):
    assert [
        (role["name"], role["users"], role["permissions"]) for role in dbctl("roles", "list")["items"]
    ] == [("chief", 1, None), ("cook", 2, None), ("guest", 1, None)]
    assert dbctl("roles", "show", "COOK")["users"] == 2
    assert dbctl("roles", "show", "wizard", status=5)["hint"] == "Roles: chief, cook, guest."
    for arguments in (
        ["create", "wizard"],
        ["update", "cook", "--name", "chef"],
        ["delete", "cook", "--yes"],
    ):
        error = dbctl("roles", *arguments, status=2)
        assert error["message"] == "changing roles is not supported by Larder"
        assert "members.kind (chief, cook, guest)" in error["hint"]


def test_role_missing_in_profile_is_counted(dbctl, pantry):
    if pantry.engine == "postgresql":
        pantry.rows("alter type member_kind add value 'wizard'")
    if pantry.engine == "mysql":
        pantry.rows("alter table members modify kind enum('guest', 'cook', 'chief', 'wizard') not null")
    pantry.rows("update members set kind = 'wizard' where handle = 'ana'")
    assert {role["name"]: role["users"] for role in dbctl("roles", "list")["items"]} == {
        "chief": 1,
        "cook": 1,
        "guest": 1,
        "wizard": 1,
    }


def test_settings_are_typed_validated_and_timestamped(dbctl, pantry):
    settings = {
        setting["key"]: (setting["value"], setting["type"], setting["default"])
        for setting in dbctl("settings", "list")["items"]
    }
    assert settings == {
        "kitchen.closed": (False, "flag", False),
        "kitchen.title": ("The Larder", "text", "The Larder"),
        "limits.servings": (4, "whole", 4),
        "limits.units": (["g", "ml"], "tree", None),
    }
    assert dbctl("settings", "get", "limits.servings")["updated_by"] == "pip"
    assert [
        setting["key"] for setting in dbctl("settings", "list", "--category", "kitchen", "--public")["items"]
    ] == ["kitchen.closed", "kitchen.title"]
    dbctl("settings", "set", "limits.servings", "51", status=2)
    dbctl("settings", "set", "limits.servings", "6")
    ((value, set_ms, set_by),) = pantry.rows(
        "select val, set_ms, set_by from options where name = 'limits.servings'"
    )
    assert (value, type(set_ms), set_by) == ("6", int, None)
    assert dbctl("settings", "reset", "limits.servings")["setting"]["value"] == 4
    dbctl("settings", "reset", "limits.units", status=2)
    dbctl("settings", "set", "limits.units", '["kg"]')
    dbctl("settings", "set", "kitchen.closed", "on")
    assert pantry.rows("select val from options where name = 'kitchen.closed'") == [("1",)]
    assert dbctl("settings", "validate")["findings"] == []


def test_settings_are_exported_and_applied(dbctl, tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(dbctl("settings", "export")), encoding="utf-8")
    dbctl("settings", "set", "kitchen.title", "Changed")
    assert [setting["key"] for setting in dbctl("settings", "diff", str(tmp_path / "s.json"))["items"]] == [
        "kitchen.title"
    ]
    assert dbctl("settings", "apply", str(tmp_path / "s.json"))["changed"] == ["kitchen.title"]
    assert dbctl("settings", "diff", str(tmp_path / "s.json"))["items"] == []


@pytest.mark.parametrize(
    ("arguments", "titles"),
    [
        ([], ["100% Rye Bread", "Lentil Soup", 'Pip\'s "Best" Lentils', "親子丼"]),
        (["lentil*"], ["Lentil Soup", 'Pip\'s "Best" Lentils']),
        (["100%"], ["100% Rye Bread"]),
        (["--query", "#vegan -author:pip labels>1"], ["100% Rye Bread", "Lentil Soup"]),
        (["--filter", "pinch=salt"], ["Lentil Soup"]),
        (["--filter", "shelf=yes"], ["100% Rye Bread", "Lentil Soup"]),
        (["--query", "added>2024-06-01"], ['Pip\'s "Best" Lentils', "親子丼"]),
        (["--sort", "-added", "--limit", "1"], ['Pip\'s "Best" Lentils']),
    ],
)
def test_recipes_are_searched(dbctl, arguments, titles):
    assert [recipe["title"] for recipe in dbctl("search", "recipes", *arguments)["items"]] == titles


def test_recipe_is_shown_with_details(dbctl):
    output = dbctl("search", "recipes", "--id", "b2c8d1ef-0000-4000-8000-000000000001")
    assert (output["title"], output['a "pinch"'], output["labels"]) == (
        "Lentil Soup",
        "salt",
        ["soup", "vegan"],
    )


def test_changes_are_written_to_audit_log(dbctl, pantry):
    dbctl("users", "create", "mo", "--email", "mo@x.example", "--password-stdin", stdin="pass word 1\n")
    dbctl("settings", "set", "limits.servings", "6")
    records = pantry.rows("select at_ms, who, verb, subject from history order by id")[2:]
    assert [(type(at), username[:7], *columns) for at, username, *columns in records] == [
        (int, "dbctl (", "joined", "users"),
        (int, "dbctl (", "settings.set", "settings"),
    ]


def test_statistics_and_reports_are_shown(dbctl, pantry):
    (overview,) = dbctl("stats", "overview")["items"]
    assert (overview["target"], overview["tables"]) == ("app/pantry", 8)
    if pantry.engine == "sqlite":
        assert (overview["journal_mode"], overview["bytes"]) == ("delete", pantry.path.stat().st_size)
    counts = {row["table"]: row["rows"] for row in dbctl("stats", "tables")["items"]}
    assert counts["recipes"] == 4
    assert dbctl("stats", "user", "ana")["rows"] == {"member_logins": 2, "options": 0, "recipes": 2}
    assert [row["action"] for row in dbctl("stats", "activity", "--user", "ANA")["items"]] == ["wrote"]
    assert dbctl("stats", "activity", "--since", "1d")["items"] == []
    report = dbctl("stats", "run", "recipes-per-cuisine", "--set", "since=1712000000000")
    assert [(item["cuisine"], item["recipes"]) for item in report["items"]] == [
        (None, 1),
        ("japanese", 1),
        ("nordic", 1),
    ]
    assert dbctl("stats", "run", "recipes-per-cuisine", "--limit", "1")["total"] == 4
    assert dbctl("stats", "run", "recipes-per-cuisine", "--set", "since=soon", status=2)["code"] == "usage"


def test_init_configures_app(tmp_path):
    flashpoint_web.larder_db(tmp_path / "larder.db")
    result = subprocess.run(
        [sys.executable, "-m", "dbctl", "init", PROFILE, ".", "-o", "json"],
        cwd=tmp_path,
        env=CLEAN_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    listed = subprocess.run(
        [sys.executable, "-m", "dbctl", "users", "list", "-o", "jsonl"],
        cwd=tmp_path,
        env=CLEAN_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(listed.stdout.splitlines()) == 4


def test_stale_logins_are_cleaned_up(dbctl, pantry):
    now = time.time_ns() // 1_000_000 if pantry.engine == "sqlite" else "now()"
    pantry.rows(
        f"update members set seen_ms = {now} where member_uuid = '{PIP}'"
    )  # without a recent row the cleanup assumes a wrong clock
    assert dbctl("sessions", "cleanup", "--check", status=3)["items"] == [
        {"rule": "stale-logins", "matched": 1, "older_than": 0}
    ]
    (result,) = dbctl("sessions", "cleanup")["rules"]
    assert (result["matched"], result["changed"], result["batches"]) == (1, 1, 1)
    assert pantry.rows("select token from member_logins order by id") == [
        ("larder-token-one",),
        ("larder-token-two",),
    ]
    assert pantry.rows("select verb, subject from history where verb like 'sessions%'") == [
        ("sessions.cleanup", "member_logins")
    ]
    assert dbctl("sessions", "cleanup", "--check")["items"][0]["matched"] == 0


def test_statistics_are_recounted(dbctl, pantry):
    pantry.rows(f"update tallies set dishes = 9 where cook = '{ANA}'")
    pantry.rows(f"delete from tallies where cook = '{PIP}'")
    assert dbctl("sessions", "rebuild-stats", "--user", "ana", status=6)["code"] == "confirmation-missing"
    (result,) = dbctl("sessions", "rebuild-stats", "--yes")["tables"]
    assert result == {"table": "tallies", "added": 1, "corrected": 0, "lowered": 1}
    tallies = pantry.rows("select dishes, first_ms, counted_ms from tallies order by cook")
    assert [(dishes, first, type(counted_at)) for dishes, first, counted_at in tallies] == [
        (1, 1731000000000, int),
        (2, 1600000000000, int),
        (1, 1721000000000, type(None)),
    ]
    assert pantry.rows("select verb, subject from history where verb like 'sessions%'") == [
        ("sessions.rebuild-stats", "statistics")
    ]
    (result,) = dbctl("sessions", "rebuild-stats")["tables"]
    assert result == {"table": "tallies", "added": 0, "corrected": 0, "lowered": 0}


def test_own_ledger_is_written_and_schema_compared(dbctl, pantry, quick, tmp_path):
    quick.write_text(quick.read_text(encoding="utf-8") + LEDGER, encoding="utf-8")
    folder = tmp_path / "steps"
    folder.mkdir()
    (folder / "001-kitchen.sql").write_text(pantry.made_by, encoding="utf-8")
    (folder / "002-jars.sql").write_text("create table jars (jar integer primary key);", encoding="utf-8")
    pantry.empty()
    dbctl("migrate", "up", "--migrations", folder)
    assert [(step, type(result)) for step, result in pantry.rows("select step, done_ms from steps")] == [
        ("001-kitchen", int),
        ("002-jars", int),
    ]
    assert dbctl("migrate", "drift", "--migrations", folder)["findings"] == []
    pantry.rows('alter table "order" add column "a ""lid""" text')
    pantry.rows("drop table jars")
    findings = dbctl("migrate", "drift", "--migrations", folder, status=4)["findings"]
    assert [finding["message"] for finding in findings] == [
        "table jars is missing: jar; created by 002-jars",
        'order.a "lid" exists, but no migration creates it: TEXT',
    ]


def test_rows_are_shown_and_edited_by_types_and_transitions(dbctl, pantry):
    output = dbctl("data", "show", "members", ANA)
    assert (output["secret_hash"], output["kind"], str(output["member_uuid"])) == ("***", "cook", ANA)
    for key in (ANA.replace("2", "9"), "no uuid"):
        assert dbctl("data", "show", "members", key, status=5)["code"] == "row-not-found"
    result = dbctl("data", "rows", "members", "--filter", "enabled=no", "--columns", "handle,kind")
    assert result["items"] == [{"handle": "olav", "kind": "guest"}]
    assert dbctl("data", "rows", "members", "--filter", "kind=nonsense")["total"] == 0
    refused = dbctl("data", "set", "members", OLAV, "kind=chief", status=6)
    assert (refused["code"], refused["message"]) == (
        "transition-refused",
        "app/pantry: members.kind cannot change from guest to chief",
    )
    assert refused["hint"] == (
        "From guest it can change to: cook. A chief was a cook first. --any-state allows every state."
    )
    result = dbctl("data", "set", "members", OLAV, "kind=cook", "enabled=yes")
    assert (result["before"]["kind"], result["after"]["kind"]) == ("guest", "cook")
    assert dbctl("data", "set", "members", PIP, "kind=cook", status=6)["code"] == "last-admin"
    assert dbctl("data", "set", "recipes", RYE, "added_ms=soon", status=2)["code"] == "value-invalid"
    result = dbctl("data", "set", "recipes", RYE, 'a "pinch"=', "cuisine=danish")
    assert result["after"] == {'a "pinch"': "", "cuisine": "danish"}
    assert dbctl("data", "rows", "recipes", "--filter", 'a "pinch"=')["total"] == 2
    assert dbctl("data", "delete", "recipes", RYE, "--yes")["rows"] == {
        "recipes": 1,
        "recipe_labels": 2,
        "order": 1,
    }
    assert pantry.rows("select verb, subject from history where verb like 'data.%' order by id") == [
        ("data.set", "recipes"),
        ("data.delete", "recipes"),
    ]


def test_exported_tables_are_imported_with_advanced_sequences(dbctl, pantry, tmp_path):
    pantry.rows(
        "update member_logins set ends_ms = '2020-01-02 03:04:05'"
    )  # an import of open logins is refused
    file = str(tmp_path / "logins.jsonl")
    result = dbctl("data", "export", "member_logins", file)
    assert (result["rows"], result["left_out"]) == (3, ["token"])
    assert dbctl("data", "import", "member_logins", file, status=2)["code"] == "usage"
    file = str(tmp_path / "all.csv")
    dbctl("data", "export", "member_logins", file, "--secrets")
    before = pantry.rows("select * from member_logins order by id")
    pantry.rows("delete from member_logins")
    assert dbctl("data", "import", "member_logins", file)["added"] == 3
    assert pantry.rows("select * from member_logins order by id") == before
    assert dbctl("data", "query", "select token from member_logins", status=6)["code"] == "secret-column"
    assert dbctl("data", "query", "select count(*) as n from member_logins")["items"] == [{"n": 3}]
    (tmp_path / "wrong.csv").write_text("recipe_uuid,label\nno uuid,x\n" + f"{RYE},new\n")
    status = 2 if pantry.url.startswith("postgresql") else 6
    dbctl("data", "import", "recipe_labels", str(tmp_path / "wrong.csv"), status=status)
    assert pantry.rows("select count(*) from recipe_labels") == [(5,)]


def test_recipes_are_found_by_full_text_index(dbctl):
    assert dbctl("search", "index", "check")["findings"][0]["code"] == "text-index-missing"
    built = dbctl("search", "index", "build")
    assert (built["changed"], built["effect"]["counts"]) == (True, {})  # the plan has other steps than SQL
    assert dbctl("search", "index", "check")["findings"] == []
    (recipe,) = dbctl("search", "recipes", "lentils", "cumin")["items"]
    assert (recipe["title"], recipe["score"] > 0) == ("Lentil Soup", True)
    assert dbctl("search", "recipes", "lentils", "--count") == {"total": 2}
    assert dbctl("search", "index", "drop")["changed"]


def test_secret_setting_is_shown_only_with_secrets_option(dbctl, quick, tmp_path):
    text = quick.read_text(encoding="utf-8")
    table = 'scope = "system"\ntable = "options"\n'
    assert table in text
    quick.write_text(text.replace(table, f'{table}secret = ["kitchen.*"]\n'), encoding="utf-8")

    def title(*arguments):
        return next(
            (
                setting["value"]
                for setting in dbctl("settings", "list", *arguments)["items"]
                if setting["key"] == "kitchen.title"
            ),
            None,
        )

    changed = dbctl("settings", "set", "kitchen.title", "hush-hush")
    assert (changed["before"], changed["setting"]["value"]) == ("***", "***")
    assert (title(), title("--secrets")) == ("***", "hush-hush")
    assert dbctl("settings", "get", "kitchen.title")["value"] == "***"
    assert dbctl("settings", "get", "kitchen.title", "--secrets")["value"] == "hush-hush"
    output = dbctl("settings", "export")
    assert "kitchen.title" not in output
    assert dbctl("settings", "export", "--secrets")["kitchen.title"] == "hush-hush"
    (tmp_path / "wanted.json").write_text(json.dumps(output))
    settings_file = tmp_path / "wanted.json"
    assert "hush" not in str(dbctl("settings", "diff", settings_file))
    dbctl(
        "settings", "apply", settings_file, "--mode", "exact", "--yes"
    )  # settings that the export omits are not deleted
    assert title("--secrets") == "hush-hush"
    (tmp_path / "wanted.json").write_text(json.dumps({"kitchen.title": "***"}))
    refused = dbctl("settings", "apply", settings_file, status=2)
    assert "mask of a secret" in refused["message"]
    assert title("--secrets") == "hush-hush"


def test_failed_migration_is_reported_with_applied_statements(dbctl, pantry, quick, tmp_path):
    quick.write_text(quick.read_text(encoding="utf-8") + LEDGER, encoding="utf-8")
    folder = tmp_path / "steps"
    folder.mkdir()
    (folder / "001-kitchen.sql").write_text(pantry.made_by, encoding="utf-8")
    file = folder / "002-jars.sql"
    file.write_text(
        "create table jars (jar integer primary key);\ncreate table jars (jar integer);", encoding="utf-8"
    )
    pantry.empty()
    error = dbctl("migrate", "up", "--migrations", folder, status=1)
    assert "002-jars failed in statement 2 (line 2)" in error["message"]
    if pantry.engine == "mysql":
        assert error["code"] == "migration-partial"
        assert "its changes remain: statement 1 of 2 ran" in error["hint"]
    else:
        assert error["code"] == "migration-failed"
        assert "rolled back completely" in error["hint"]
    assert pantry.rows("select step from steps") == [("001-kitchen",)]
    file.write_text("create table jars (jar integer primary key);", encoding="utf-8")
    dbctl("migrate", "up", "--migrations", folder)
    assert dbctl("migrate", "drift", "--migrations", folder)["findings"] == []
