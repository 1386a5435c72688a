"""Commands for PostgreSQL servers: statistics, doctor, integrity, maintenance, cancel."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from jsonschema import Draft202012Validator

from dbctl.cli.main import main
from tests.profiles.test_larder import PROFILE, SCRIPTS
from tests.sandbox import start_private
from tests.shapes import waqtor
from tests.shapes.flashpoint_web import PASSWORD_HASH
from tools import reference

ROOT = Path(__file__).parents[3]
SCHEMAS = json.loads(reference.SCHEMAS.read_text(encoding="utf-8"))
RECOMMENDED = """
[databases.pantry.recommended.postgresql]
shared_buffers = "256MB"
effective_cache_size = "1GB"
work_mem = "4MB"
maintenance_work_mem = "64MB"
checkpoint_completion_target = 0.9
wal_buffers = "16MB"
default_statistics_target = 100
random_page_cost = 1.1
effective_io_concurrency = 200
"""


@pytest.fixture(scope="module")
def server():
    with start_private("shared_preload_libraries=pg_stat_statements", "autovacuum=off") as running:
        with closing(running.connection()) as connection:
            connection.execute("create extension pg_stat_statements")
        yield running


class Deployment:
    """A deployment of the larder in a separate database, with a connection."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.own = psycopg.connect(url, autocommit=True)
        script = SCRIPTS["postgresql"].read_text(encoding="utf-8")
        self.own.execute(script.replace(":password_hash", f"'{PASSWORD_HASH}'"))
        profile = PROFILE.read_text(encoding="utf-8").replace("\n[users]", RECOMMENDED + "\n[users]", 1)
        (folder / "larder.toml").write_text(profile, encoding="utf-8")
        (folder / "dbctl.toml").write_text(
            f'[apps.larder]\nprofile = "larder.toml"\n[apps.larder.databases]\npantry = "{url}"\n',
            encoding="utf-8",
        )

    def session(self):
        return psycopg.connect(self.url, autocommit=True)

    @contextmanager
    def running(self, sql):
        """Run a statement in another session; yields its PID and the list of results."""
        with closing(self.session()) as other:
            ended = []

            def run():
                try:
                    other.execute(sql)
                    ended.append(None)
                except psycopg.Error as error:
                    ended.append(type(error))

            pid = other.info.backend_pid
            thread = threading.Thread(target=run)
            thread.start()
            try:
                deadline = time.monotonic() + 20
                query = f"select from pg_stat_activity where pid = {pid} and state = 'active' and query_start < clock_timestamp() - interval '1 second'"
                while not self.own.execute(query).fetchall():
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                yield pid, ended
            finally:
                self.own.execute("select pg_cancel_backend(%s)", [pid])
                thread.join()


@pytest.fixture
def deployment(server, tmp_path, monkeypatch):
    name = f"larder_{time.time_ns():x}"
    with closing(server.connection()) as connection:
        connection.execute(f"create database {name}")
        connection.execute("select pg_stat_statements_reset()")
        deployment = Deployment(server.url.replace("/postgres?", f"/{name}?"), tmp_path)
        monkeypatch.chdir(tmp_path)
        with closing(deployment.own):
            deployment.own.execute("create extension pg_stat_statements")
            yield deployment
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def ask(answer):
    def run(command_line, status=0):
        response = answer(*command_line.split(), status=status)
        if "--columns" not in command_line:
            schema = {**SCHEMAS["answers"][response["schema"]], "$defs": SCHEMAS["$defs"]}
            Draft202012Validator(schema).validate(response)
        return response["error"] or response["data"]

    return run


def list_page_commands():
    page = (ROOT / "docs/how-to/watch-a-server.md").read_text(encoding="utf-8")
    return [
        match[1]
        for line in page.splitlines()
        if (match := re.match(r"\| .* \| `dbctl ([^`]*)`[^|]* \|$", line))
    ]


@pytest.mark.parametrize("line", dict.fromkeys(list_page_commands()))
def test_commands_of_the_page_run(line, deployment, ask):
    assert len(list_page_commands()) >= 22
    ask(line, status=None if line == "doctor" else 0)  # this server runs without fsync, which doctor minds


@pytest.mark.parametrize(
    "line", ["stats connections", "stats slow", "stats locks --waiting", "stats indexes"]
)
def test_server_statistics_are_printed_as_table(line, deployment, capsys):
    assert main(line.split()) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_lock_wait_is_one_row(deployment, ask):
    with closing(deployment.session()) as holder, holder.transaction():
        holder.execute("update members set mail = 'new@larder.example' where handle = 'pip'")
        with deployment.running("delete from members where handle = 'pip'") as (pid, _):
            (wait,) = ask("stats locks --waiting")["items"]
            locks = {row["pid"]: row for row in ask("stats locks")["items"]}
            connections = {row["pid"]: row for row in ask("stats connections")["items"]}
            other = holder.info.backend_pid
    assert (wait["blocked_pid"], wait["blocking_pid"]) == (pid, other)
    assert wait["blocked_query"] == "delete from members where handle = ?"
    assert wait["blocking_query"] == "update members set mail = ? where handle = ?"
    assert wait["waiting_seconds"] >= 1
    assert wait["blocking_seconds"] >= wait["waiting_seconds"]
    assert locks[pid]["waits_for"] == [other]
    assert locks[other]["waits_for"] == []
    assert "RowExclusiveLock on members" in locks[other]["locks"]
    assert locks[pid]["locks"][0] == "ShareLock on transactionid (waiting)"
    assert locks[other]["query"] == "update members set mail = ? where handle = ?"
    assert locks[pid]["query"] == "delete from members where handle = ?"
    assert locks[other]["transaction_seconds"] >= locks[pid]["transaction_seconds"] >= 1
    assert (connections[other]["state"], connections[pid]["wait"].split(":")[0]) == (
        "idle in transaction",
        "Lock",
    )
    assert ask("stats locks --waiting")["items"] == []


def test_slow_statements_are_sorted_by_duration(deployment, ask):
    deployment.own.execute("select pg_sleep(0.3)")
    deployment.own.execute("create role serverstats_x password 'secret'; drop role serverstats_x")
    items = ask("stats slow --sort -mean_seconds --limit 50")["items"]
    assert items[0]["query"] in ("select pg_sleep($1)", "select pg_sleep(?)")
    assert 0.3 <= items[0]["mean_seconds"] <= items[0]["total_seconds"]
    assert "secret" not in json.dumps(items)


def test_unneeded_indexes_are_listed_with_replacement(deployment, ask):
    deployment.own.execute(
        """alter table members add constraint members_mail_key1 unique (mail);
        create unique index members_mail on members (mail);
        create index members_handle on members (handle);
        create index by_cuisine on recipes (cuisine);
        create index by_cuisine_and_title on recipes (cuisine, title);
        create index by_title on recipes (title) where cuisine is null"""
    )
    items = ask("stats indexes")["items"]
    problems = {row["index"]: (row["state"], row["covered_by"]) for row in items if row["state"]}
    assert problems == {
        "members_mail_key1": ("duplicate", "members_mail_key"),
        "members_mail": ("duplicate", "members_mail_key"),
        "members_handle": ("duplicate", "members_handle_key"),
        "by_cuisine": ("redundant", "by_cuisine_and_title"),
        "by_cuisine_and_title": ("unused", None),
        "by_title": ("unused", None),
    }
    for row in ask("stats indexes --only duplicate")["items"]:
        deployment.own.execute(row["drop"])
    remaining = {row["index"] for row in ask("stats indexes")["items"] if row["table"] == "members"}
    assert remaining == {"members_pkey", "members_mail_key", "members_handle_key"}


def test_repeated_constraints_of_libraries_are_found(server, answer):
    with closing(server.connection()) as admin:
        admin.execute("create database waqtor")
        try:
            url = server.url.replace("/postgres?", "/waqtor?")
            with closing(psycopg.connect(url, autocommit=True)) as connection:
                waqtor.deployed(connection)
                connection.execute("alter table users add constraint users_email_key1 unique (email)")
            options = ["--profile", "waqtor", "--url", f"main={url}"]
            items = answer(*options, "stats", "indexes", "--only", "duplicate")["data"]["items"]
            replacements = {row["index"]: row["covered_by"] for row in items}
            assert replacements["users_email_key1"] == replacements["users_email"] == "users_email_key"
            assert replacements["whatsapp_sessions_client_id"] == "whatsapp_sessions_client_id_key"
            findings = answer(*options, "doctor", status=None)["data"]["findings"]
            (finding,) = [entry for entry in findings if entry["code"] == "duplicate-constraint"]
            assert "users_email_key1" in finding["message"]
            with closing(psycopg.connect(url, autocommit=True)) as connection:
                for row in items:
                    connection.execute(row["drop"])
            assert answer(*options, "stats", "indexes", "--only", "duplicate")["data"]["items"] == []
        finally:
            admin.execute("drop database waqtor with (force)")


def test_writes_are_counted_by_table(deployment, ask):
    deployment.own.execute(
        "update tallies set dishes = dishes + 1; delete from recipe_labels where label = 'soup'"
    )
    deployment.own.execute("select pg_stat_force_next_flush()")
    tables = {row["table"]: row for row in ask("stats tables")["items"]}
    assert (tables["tallies"]["inserts"], tables["tallies"]["updates"], tables["tallies"]["rows"]) == (
        3,
        3,
        3,
    )
    assert (tables["recipe_labels"]["deletes"], tables["recipe_labels"]["dead_rows"]) == (1, 1)
    ask("maintain vacuum --table recipe_labels")
    tables = {row["table"]: row for row in ask("stats tables")["items"]}
    assert tables["recipe_labels"]["dead_rows"] == 0
    assert tables["recipe_labels"]["vacuumed_at"] is not None
    (overview,) = ask("stats overview")["items"]
    assert 0 < overview["cache_hit_ratio"] <= 1
    assert overview["max_connections"] >= overview["connections"] > 0


def test_maintenance_runs_the_planned_statements(deployment, ask):
    plan = ask("maintain vacuum --dry-run --table order --table members")["plan"]
    assert plan["steps"] == ['VACUUM (ANALYZE) "public"."members"', 'VACUUM (ANALYZE) "public"."order"']
    query = "select count(*) from pg_stat_user_tables where last_vacuum is not null"
    assert deployment.own.execute(query).fetchone() == (0,)
    done = ask("maintain vacuum --table order --table members")["tasks"]
    assert [task["statement"] for task in done] == plan["steps"]
    assert [task["error"] for task in done] == [None, None]
    assert ask("maintain vacuum --table gone", status=2)["code"] == "schema-mismatch"
    assert ask("maintain checkpoint")["tasks"][0]["statement"] == "CHECKPOINT"
    assert len(ask("maintain analyze")["tasks"]) == 8
    assert ask("maintain optimize")["tasks"] == []


def test_locked_table_does_not_block_maintenance_of_others(deployment, ask, answer):
    with closing(deployment.session()) as holder, holder.transaction():
        holder.execute("lock table members in access exclusive mode")
        pid = holder.info.backend_pid
        response = answer(*["maintain", "vacuum", "--timeout", "0.3"], status=12)
        failure = ask("maintain vacuum --timeout 0 --table members", status=11)
    failed = {task["table"]: task["error"] for task in response["data"]["tasks"] if task["error"]}
    assert failed == {"members": "busy"}
    assert len(response["data"]["tasks"]) == 8
    assert str(pid) in failure["message"]


def test_failed_reindex_reports_leftover_index(deployment, ask):
    with closing(deployment.session()) as holder, holder.transaction():
        holder.execute("update tallies set dishes = 1")
        failed = ask("maintain reindex --timeout 0.3 --table tallies", status=11)
    assert "tallies_pkey_ccnew" in failed["message"]
    line = re.search(r"DROP INDEX CONCURRENTLY .*;", failed["message"])
    findings = ask("integrity check", status=0)["findings"]
    assert [(finding["code"], finding["hint"]) for finding in findings] == [("index-leftover", line[0])]
    deployment.own.execute(line[0])
    assert ask("integrity check")["findings"] == []
    assert ask("maintain reindex --table tallies")["tasks"][0]["error"] is None


def test_cancel_ends_only_the_selected_statement(deployment, ask):
    plan = ask("maintain cancel --older-than 1s --dry-run")["plan"]
    assert plan["steps"] == []
    with deployment.running("select pg_sleep(60)") as (pid, ended):
        (step,) = ask("maintain cancel --older-than 1s --dry-run")["plan"]["steps"]
        assert step.startswith(f"{pid}, ")
        assert step.endswith("select pg_sleep(?)")
        assert ask(f"maintain cancel {pid}", status=6)["code"] == "confirmation-missing"
        assert ask("maintain cancel --older-than 1h --yes")["sessions"] == []
        (done,) = ask(f"maintain cancel {pid} --yes")["sessions"]
        assert (done["pid"], done["ended"]) == (pid, True)
    assert ended == [psycopg.errors.QueryCanceled]
    assert ask("maintain cancel 2147483647 --yes", status=5)["code"] == "session-missing"
    assert ask("maintain cancel --yes", status=2)["code"] == "usage"
    assert ask(f"maintain cancel {pid} --older-than 5m", status=2)["code"] == "usage"


def test_idle_transaction_is_ended_only_by_terminate(deployment, ask):
    with closing(deployment.session()) as idle:
        idle.execute("begin; select 1")
        time.sleep(1.1)
        assert ask("maintain cancel --older-than 1s --yes")["sessions"] == []
        (done,) = ask("maintain cancel --older-than 1s --terminate --yes")["sessions"]
        assert (done["pid"], done["ended"]) == (idle.info.backend_pid, True)


def test_doctor_compares_settings_with_recommendations(deployment, ask):
    def find_low_settings():
        findings = ask("doctor", status=None)["findings"]
        return {
            finding["message"].split()[0]: finding
            for finding in findings
            if finding["code"] == "setting-below"
        }

    findings_by_setting = find_low_settings()
    assert {name: finding["hint"] for name, finding in findings_by_setting.items()} == {
        "shared_buffers": "ALTER SYSTEM SET shared_buffers = '256MB';",
        "wal_buffers": "ALTER SYSTEM SET wal_buffers = '16MB';",
        "random_page_cost": "ALTER SYSTEM SET random_page_cost = '1.1';",
        "effective_io_concurrency": "ALTER SYSTEM SET effective_io_concurrency = '200';",
    }
    assert "restart" in findings_by_setting["shared_buffers"]["message"]
    assert "reload" in findings_by_setting["random_page_cost"]["message"]
    for finding in findings_by_setting.values():
        deployment.own.execute(finding["hint"])
    try:
        deployment.own.execute("select pg_reload_conf()")
        deadline = time.monotonic() + 10
        while len(findings_by_setting) > 2 and time.monotonic() < deadline:
            findings_by_setting = find_low_settings()
        assert set(findings_by_setting) == {"shared_buffers", "wal_buffers"}
        assert {finding["hint"] for finding in findings_by_setting.values()} == {""}
        assert "after a restart" in findings_by_setting["wal_buffers"]["message"]
    finally:
        deployment.own.execute("alter system reset all")
        deployment.own.execute("select pg_reload_conf()")


def test_doctor_reports_exactly_the_missing_privileges(deployment, ask):
    deployment.own.execute("create role bob login")
    try:
        deployment.own.execute("grant select on members, options, recipes to bob")
        url = deployment.url.replace("postgres@", "bob@")
        options = f"--profile larder.toml --url pantry={url}"
        hints = [
            finding["hint"]
            for finding in ask(f"{options} doctor", status=None)["findings"]
            if finding["hint"].startswith("GRANT")
        ]
        assert (
            'GRANT INSERT, UPDATE, DELETE ON TABLE "public"."members", "public"."options", "public"."recipes" TO "bob";'
            in hints
        )
        for line in hints:
            deployment.own.execute(line)
        findings = ask(f"{options} doctor", status=None)["findings"]
        assert "privilege-missing" not in [finding["code"] for finding in findings]
        ask(f"{options} users update pip --email pip@larder.example --yes")
    finally:
        deployment.own.execute("drop owned by bob")
        deployment.own.execute("drop role bob")


def test_outdated_sequences_and_unvalidated_constraints_are_found(deployment, ask):
    deployment.own.execute("alter table recipes drop constraint recipes_member_uuid_fkey")
    deployment.own.execute("update recipes set member_uuid = gen_random_uuid() where cuisine = 'nordic'")
    deployment.own.execute(
        "alter table recipes add constraint again foreign key (member_uuid) references members not valid"
    )
    deployment.own.execute("select setval('member_logins_id_seq', 1)")
    findings = {finding["code"]: finding for finding in ask("integrity check", status=4)["findings"]}
    assert set(findings) == {"foreign-key-orphans", "not-validated", "sequence-behind"}
    deployment.own.execute(findings["sequence-behind"]["hint"])
    deployment.own.execute("delete from recipes where cuisine = 'nordic'")
    deployment.own.execute(findings["not-validated"]["hint"])
    assert ask("integrity check")["findings"] == []


def test_unreadable_table_does_not_hide_other_findings(deployment, ask):
    deployment.own.execute("create role eve login; grant select on all tables in schema public to eve")
    try:
        deployment.own.execute(
            "revoke select on history from eve; alter table recipes drop constraint recipes_member_uuid_fkey"
        )
        deployment.own.execute(
            "alter table recipes add constraint again foreign key (member_uuid) references members not valid"
        )
        options = f"--profile larder.toml --url pantry={deployment.url.replace('postgres@', 'eve@')}"
        findings = ask(f"{options} integrity check", status=6)["findings"]
        hints = {finding["code"]: finding["hint"] for finding in findings if finding["severity"] != "info"}
        assert set(hints) == {"privilege-missing", "not-validated"}
        assert 'GRANT SELECT ON "public"."history" TO "eve";' in hints["privilege-missing"]
    finally:
        deployment.own.execute("drop owned by eve; drop role eve")


def test_old_columns_of_pg_stat_statements_are_supported(server, deployment, ask):
    deployment.own.execute(
        "drop extension pg_stat_statements; create extension pg_stat_statements version '1.7'"
    )
    deployment.own.execute("select pg_sleep(0.2)")
    deployment.own.execute("select mean_time from pg_stat_statements limit 1")
    assert "pg_sleep" in ask("stats slow --sort -mean_seconds")["items"][0]["query"]


def test_corrupt_page_is_found(tmp_path, monkeypatch, ask):
    monkeypatch.chdir(tmp_path)
    with start_private() as server:
        with closing(Deployment(server.url, tmp_path).own) as connection:
            (file,) = connection.execute("select pg_relation_filepath('recipes')").fetchone()
            connection.execute("checkpoint")
        server.stop()
        with (server.data / file).open("r+b") as page:
            page.seek(4000)
            page.write(b"\xff" * 16)
        server.start()
        findings = ask("integrity check", status=4)["findings"]
        table_findings = ask("integrity check --table members")["findings"]
    codes = [finding["code"] for finding in findings if finding["severity"] == "error"]
    assert "checksums-failed" in codes
    assert "corrupt" in codes
    assert any("recipes" in finding["message"] for finding in findings)
    assert table_findings == []


def test_invalid_row_ages_are_found_with_amcheck(deployment, ask):
    deployment.own.execute("create extension amcheck")
    assert ask("integrity check")["findings"] == []
    deployment.own.execute(
        "update pg_class set relfrozenxid = txid_current()::text::xid where relname = 'tallies'"
    )
    (finding,) = ask("integrity check", status=4)["findings"]
    assert (finding["code"], finding["message"][:8]) == ("corrupt", "tallies:")
    assert ask("integrity check --quick")["findings"] == []


def test_incomplete_index_is_found_with_amcheck(server, deployment, ask):
    deployment.own.execute("create extension amcheck")
    deployment.own.execute("create index by_title on recipes (title)")
    assert ask("integrity check")["findings"] == []
    # rows of the table go behind the back of the index
    deployment.own.execute("update pg_index set indisready = false where indexrelid = 'by_title'::regclass")
    deployment.own.execute(
        "insert into recipes values (gen_random_uuid(), (select member_uuid from members limit 1), 'New', 'x', null, 1)"
    )
    deployment.own.execute("update pg_index set indisready = true where indexrelid = 'by_title'::regclass")
    (finding,) = ask("integrity check", status=4)["findings"]
    assert (finding["code"], "by_title" in finding["message"]) == ("index", True)
    ask("maintain reindex --table recipes")
    assert ask("integrity check")["findings"] == []
