"""Servers that lack features of PostgreSQL or MySQL, as compatible distributed servers do: a real server behind a proxy."""

from __future__ import annotations

import re
from contextlib import closing, contextmanager

import pytest

from dbctl.config.sections import Selection
from dbctl.engines.contract.database import Condition, Query
from dbctl.model import Plan
from dbctl.services.app.change import Change, PreparedChange
from dbctl.services.app.session import open_app
from tests import servers
from tests.databases import PostgreSQL
from tests.rewriting_proxy import open_proxy
from tests.services import larder_app
from tests.services.larder_app import ANA

#: Patterns in statements of clients, and what replaces them so that the server rejects the statement.
MISSING = {
    "advisory locks": (rb"pg_(try_)?advisory_(un)?lock\(", rb"pg_no_lock("),
    "locks of sessions": (
        rb"(get_lock|is_free_lock|is_used_lock|release_lock|release_all_locks)\(",
        rb"no_lock(",
    ),
    "exported snapshots": (rb"pg_export_snapshot\(", rb"pg_no_snapshot("),
    "row locks": (rb"(?s)^select (.* for no key update of t0)$", rb"select count(*) over (), \1"),
    "rollback to savepoints": (
        rb"^rollback to savepoint .*",
        rb"do $$begin raise feature_not_supported using message = 'no savepoints'; end$$",
    ),
    "xmin": (rb"\bxmin\b", rb"no_xmin"),
    "deferrable constraints": (rb"(?i)\b(set constraints|(?<!as )deferrable)\b", rb"no_\1"),
    "table locks": (rb"(?i)^lock tables?\b", rb"lock nothing"),
}
READS = [
    ["users", "list"],
    ["data", "rows", "recipes"],
    ["stats", "tables"],
    ["integrity", "check"],
    ["settings", "validate"],
    ["search", "all", "soup"],
]
WRITES = [
    ["sessions", "cleanup", "--yes", "--trust-clock"],
    ["users", "deactivate", "ana"],
    ["users", "set-role", "ana", "guest"],
    ["settings", "set", "kitchen.title", "Pantry"],
    ["data", "set", "members", ANA, "mail=x@larder.example"],
    ["users", "delete", "ana", "--yes"],
]
BY_ENGINE = {
    "postgresql": [
        "advisory locks",
        "exported snapshots",
        "row locks",
        "rollback to savepoints",
        "xmin",
        "deferrable constraints",
    ],
    "mysql": ["locks of sessions", "table locks"],
}
#: The features that these commands use; the others are not needed at all.
USED = {"advisory locks", "locks of sessions", "row locks"}
CASES = [(engine, feature) for engine, features in BY_ENGINE.items() for feature in features]


@contextmanager
def open_without(engine, feature, folder, monkeypatch):
    """Yield Larder on a server without a feature, and the proxy."""
    pattern, replacement = MISSING[feature]
    with (
        larder_app.open_pantry(engine, folder) as pantry,
        open_proxy(pantry.own, lambda sql: re.sub(pattern, replacement, sql)) as (proxy, url),
    ):
        larder_app.configure(folder, url)
        monkeypatch.chdir(folder)
        yield pantry, proxy


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "feature"), CASES)
def test_commands_work_without_feature(tmp_path, monkeypatch, answer, engine, feature):
    with open_without(engine, feature, tmp_path / "app", monkeypatch) as (pantry, proxy):
        for words in READS:
            answer(*words)
        for words in WRITES:
            before = pantry.content()
            answer(*words)
            assert pantry.content() != before, words
        assert bool(proxy.rewritten) == (feature in USED)


@pytest.mark.parametrize(
    ("engine", "feature"), [("postgresql", "advisory locks"), ("mysql", "locks of sessions")]
)
def test_missing_lock_is_reported(tmp_path, monkeypatch, answer, engine, feature):
    with open_without(engine, feature, tmp_path / "app", monkeypatch) as (_, proxy):
        codes = [finding["code"] for finding in answer("doctor")["data"]["findings"]]
        assert "lock-missing" in codes
        assert proxy.rewritten


def test_lock_without_effect_is_reported(tmp_path, monkeypatch, answer):
    """Some servers accept the functions of advisory locks, and lock nothing."""
    pattern = rb"pg_try_advisory_lock\(([^)]*)\)"
    with (
        larder_app.open_pantry("postgresql", tmp_path / "app") as pantry,
        open_proxy(pantry.own, lambda sql: re.sub(pattern, rb"(\1 is not null)", sql)) as (proxy, url),
    ):
        larder_app.configure(tmp_path / "app", url)
        monkeypatch.chdir(tmp_path / "app")
        codes = [finding["code"] for finding in answer("doctor")["data"]["findings"]]
        assert "lock-missing" in codes
        answer("users", "deactivate", "ana")
        assert proxy.rewritten


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_effective_lock_is_not_reported(tmp_path, monkeypatch, answer, engine):
    with larder_app.open_pantry(engine, tmp_path / "app"):
        monkeypatch.chdir(tmp_path / "app")
        codes = [finding["code"] for finding in answer("doctor")["data"]["findings"]]
        assert "lock-missing" not in codes


def test_backup_without_exported_snapshots_is_refused(tmp_path, monkeypatch, answer):
    with open_without("postgresql", "exported snapshots", tmp_path / "app", monkeypatch) as (_, proxy):
        refused = answer("backup", "create", status=2)
        assert refused["error"]["code"] == "not-supported"
        assert not list((tmp_path / "app/backups").rglob("*.dump*"))
        assert proxy.rewritten


def test_transaction_without_row_locks_is_serializable(tmp_path, monkeypatch):
    """Two transactions that each read what the other one writes: one of them is repeated."""
    with open_without("postgresql", "row locks", tmp_path / "app", monkeypatch) as (pantry, proxy):
        mails = []

        def draft(db):
            where = [Condition("handle", "=", "pip")]
            ((mail,),) = db.read_rows(Query(table="members", columns=["mail"], where=where, for_update=True))
            mails.append(mail)
            if len(mails) == 1:  # an earlier attempt has failed, because the server lacks the locks
                with closing(servers.connection(pantry.own)) as other:
                    other.execute("begin isolation level serializable")
                    other.execute("select mail from members where handle = 'ana'")
                    other.execute("update members set mail = 'other@larder.example' where handle = 'pip'")
                    other.execute("commit")
            plan = Plan(title="Change an address", target="larder/pantry", steps=["update one row"], rows={})
            where = [Condition("handle", "=", "ana")]
            return PreparedChange(
                plan=plan, apply=lambda db: db.update("members", {"mail": f"{mail}.copy"}, where)
            )

        with open_app(Selection(), timeout=5) as app:
            assert Change(app, "pantry", draft).apply() == 1
        assert proxy.rewritten
        assert mails == ["pip@larder.example", "other@larder.example"]
        assert pantry.rows("select mail from members where handle = 'ana'") == [
            ("other@larder.example.copy",)
        ]


# MySQL cannot detect the change: what a transaction of dbctl reads is locked there
@pytest.mark.parametrize("engine", ["postgresql", pytest.param("mysql", marks=pytest.mark.mariadb)])
def test_serialization_failure_repeats_the_transaction(tmp_path, monkeypatch, engine):
    with larder_app.open_pantry(engine, tmp_path / "app") as pantry:
        monkeypatch.chdir(tmp_path / "app")
        counts = []

        def draft(db):
            counts.append(db.count("members", []))  # the snapshot begins here
            if len(counts) == 1:
                pantry.run("update members set mail = 'other@larder.example' where handle = 'pip'")
            plan = Plan(title="Change an address", target="larder/pantry", steps=["update one row"], rows={})
            where = [Condition("handle", "=", "pip")]
            return PreparedChange(
                plan=plan, apply=lambda db: db.update("members", {"mail": "new@larder.example"}, where)
            )

        with open_app(Selection(), timeout=5) as app:
            assert Change(app, "pantry", draft).apply() == 1
        assert counts == [4, 4]
        assert pantry.rows("select mail from members where handle = 'pip'") == [("new@larder.example",)]


class SchemaChangesWithoutSavepoints:
    """Rejects savepoints in a transaction that has changed the schema."""

    def __init__(self):
        self.has_changed_schema = False

    def rewrite(self, sql):
        if sql.startswith((b"create", b"alter", b"drop")):
            self.has_changed_schema = True
        elif sql.startswith((b"begin", b"commit")):
            self.has_changed_schema = False
        elif self.has_changed_schema and re.match(rb"savepoint|rollback to|release", sql):
            return b"do $$begin raise feature_not_supported using message = 'no savepoints here'; end$$"
        return sql


def test_migrations_without_savepoints_after_schema_changes(tmp_path, monkeypatch, answer):
    (tmp_path / "0001_kinds.sql").write_text(
        "-- migrate:up\ncreate table kinds (id int primary key);\ninsert into kinds values (1);\n"
        "alter table kinds add column name text;\n-- migrate:down\ndrop table kinds;\n"
    )
    with (
        servers.postgresql_database(encoding="UTF8") as url,
        open_proxy(url, SchemaChangesWithoutSavepoints().rewrite) as (proxy, own),
    ):
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.plain]\nprofile = "plain"\n[apps.plain.databases]\nmain = "{own}"\n'
            f'[apps.plain.migrations]\nmain = "."\n[apps.plain.backup]\nrepository = "backups"\n'
        )
        monkeypatch.chdir(tmp_path)
        answer("migrate", "up")
        assert proxy.rewritten == []
        with closing(servers.connection(url)) as connection:
            assert connection.execute("select id, name from kinds").fetchall() == [(1, None)]
        before = PostgreSQL(url).tables()
        # the scratch schema is one transaction, in which each migration is a savepoint
        error = answer("migrate", "drift", status=1)["error"]
        assert error["code"] == "replay-failed"
        assert "no savepoints here" in error["message"]
        assert PostgreSQL(url).tables() == before
        answer("migrate", "down", "--yes")
        assert "kinds" not in PostgreSQL(url).tables()


def test_migration_that_needs_savepoint_fails_with_reason_of_server(tmp_path, monkeypatch, answer):
    (tmp_path / "0001_kinds.sql").write_text("create table kinds (id int primary key);\n")
    changes = "alter table kinds add column name text;\ndelete from kinds where id = 99;\n"
    with (
        servers.postgresql_database(encoding="UTF8") as url,
        open_proxy(url, SchemaChangesWithoutSavepoints().rewrite) as (_, own),
    ):
        words = ("--url", f"main={own}", "migrate", "up", "--migrations", str(tmp_path), "--no-backup")
        answer(*words)
        (tmp_path / "0002_names.sql").write_text(f"-- dbctl: allow-data-loss\n{changes}")
        error = answer(*words, status=1)["error"]
        assert error["code"] == "migration-failed"
        assert "no savepoints here" in error["message"]
