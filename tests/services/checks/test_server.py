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
    with start_private("shared_preload_libraries=pg_stat_statements", "autovacuum=off") as server:
        with closing(server.connection()) as connection:
            connection.execute("create extension pg_stat_statements")
        yield server


class Deployment:
    """Larder in a separate database, with a connection."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.connection = psycopg.connect(url, autocommit=True)
        script = SCRIPTS["postgresql"].read_text(encoding="utf-8")
        self.connection.execute(script.replace(":password_hash", f"'{PASSWORD_HASH}'"))
        profile = PROFILE.read_text(encoding="utf-8").replace("\n[users]", RECOMMENDED + "\n[users]", 1)
        (folder / "larder.toml").write_text(profile, encoding="utf-8")
        (folder / "dbctl.toml").write_text(
            f'[apps.larder]\nprofile = "larder.toml"\n[apps.larder.databases]\npantry = "{url}"\n',
            encoding="utf-8",
        )

    def connect(self):
        return psycopg.connect(self.url, autocommit=True)

    @contextmanager
    def run_in_session(self, sql):
        """Run a statement in another session; yield its PID and the list of results."""
        with closing(self.connect()) as other:
            results = []

            def run():
                try:
                    other.execute(sql)
                    results.append(None)
                except psycopg.Error as error:
                    results.append(type(error))

            pid = other.info.backend_pid
            thread = threading.Thread(target=run)
            thread.start()
            try:
                deadline = time.monotonic() + 60
                query = f"select from pg_stat_activity where pid = {pid} and state = 'active' and query_start < clock_timestamp() - interval '1 second'"
                while not self.connection.execute(query).fetchall():
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                yield pid, results
            finally:
                self.connection.execute("select pg_cancel_backend(%s)", [pid])
                thread.join()


@pytest.fixture
def deployment(server, tmp_path, monkeypatch):
    name = f"larder_{time.time_ns():x}"
    with closing(server.connection()) as connection:
        connection.execute(f"create database {name}")
        connection.execute("select pg_stat_statements_reset()")
        deployment = Deployment(server.url.replace("/postgres?", f"/{name}?"), tmp_path)
        monkeypatch.chdir(tmp_path)
        with closing(deployment.connection):
            deployment.connection.execute("create extension pg_stat_statements")
            yield deployment
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def run_json(answer):
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
def test_commands_of_the_how_to_page_run(line, deployment, run_json):
    assert len(list_page_commands()) >= 22
    run_json(
        line, status=None if line == "doctor" else 0
    )  # the doctor reports that this server runs without fsync


@pytest.mark.parametrize(
    "line", ["stats connections", "stats slow", "stats locks --waiting", "stats indexes"]
)
def test_server_statistics_are_printed_as_table(line, deployment, capsys):
    assert main(line.split()) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_lock_wait_is_listed_with_both_sessions(deployment, run_json):
    with closing(deployment.connect()) as holder, holder.transaction():
        holder.execute("update members set mail = 'new@larder.example' where handle = 'pip'")
        with deployment.run_in_session("delete from members where handle = 'pip'") as (pid, _):
            (wait,) = run_json("stats locks --waiting")["items"]
            locks = {row["pid"]: row for row in run_json("stats locks")["items"]}
            connections = {row["pid"]: row for row in run_json("stats connections")["items"]}
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
    assert run_json("stats locks --waiting")["items"] == []


def test_slow_statements_are_sorted_by_duration(deployment, run_json):
    deployment.connection.execute("select pg_sleep(0.3)")
    deployment.connection.execute("create role serverstats_x password 'secret'; drop role serverstats_x")
    items = run_json("stats slow --sort -mean_seconds --limit 50")["items"]
    assert items[0]["query"] in ("select pg_sleep($1)", "select pg_sleep(?)")
    assert 0.3 <= items[0]["mean_seconds"] <= items[0]["total_seconds"]
    assert "secret" not in json.dumps(items)


def test_unneeded_indexes_are_listed_with_replacement(deployment, run_json):
    deployment.connection.execute(
        """alter table members add constraint members_mail_key1 unique (mail);
        create unique index members_mail on members (mail);
        create index members_handle on members (handle);
        create index by_cuisine on recipes (cuisine);
        create index by_cuisine_and_title on recipes (cuisine, title);
        create index by_title on recipes (title) where cuisine is null"""
    )
    items = run_json("stats indexes")["items"]
    conditions = {row["index"]: row["where"] for row in items if row["where"]}
    assert {name: text.strip("()").lower() for name, text in conditions.items()} == {
        "by_title": "cuisine is null"
    }
    problems = {row["index"]: (row["state"], row["covered_by"]) for row in items if row["state"]}
    assert problems == {
        "members_mail_key1": ("duplicate", "members_mail_key"),
        "members_mail": ("duplicate", "members_mail_key"),
        "members_handle": ("duplicate", "members_handle_key"),
        "by_cuisine": ("redundant", "by_cuisine_and_title"),
        "by_cuisine_and_title": ("unused", None),
        "by_title": ("unused", None),
    }
    for row in run_json("stats indexes --only duplicate")["items"]:
        deployment.connection.execute(row["drop"])
    remaining = {row["index"] for row in run_json("stats indexes")["items"] if row["table"] == "members"}
    assert remaining == {"members_pkey", "members_mail_key", "members_handle_key"}


def test_duplicate_constraints_of_migration_libraries_are_reported(server, answer):
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


def test_writes_are_counted_by_table(deployment, run_json):
    deployment.connection.execute(
        "update tallies set dishes = dishes + 1; delete from recipe_labels where label = 'soup'"
    )
    deployment.connection.execute("select pg_stat_force_next_flush()")
    tables = {row["table"]: row for row in run_json("stats tables")["items"]}
    assert (tables["tallies"]["inserts"], tables["tallies"]["updates"], tables["tallies"]["rows"]) == (
        3,
        3,
        3,
    )
    assert (tables["recipe_labels"]["deletes"], tables["recipe_labels"]["dead_rows"]) == (1, 1)
    run_json("maintain vacuum --table recipe_labels")
    tables = {row["table"]: row for row in run_json("stats tables")["items"]}
    assert tables["recipe_labels"]["dead_rows"] == 0
    assert tables["recipe_labels"]["vacuumed_at"] is not None
    (overview,) = run_json("stats overview")["items"]
    assert 0 < overview["cache_hit_ratio"] <= 1
    assert overview["max_connections"] >= overview["connections"] > 0


def test_maintenance_runs_the_planned_statements(deployment, run_json):
    plan = run_json("maintain vacuum --dry-run --table order --table members")["plan"]
    assert plan["steps"] == ['VACUUM (ANALYZE) "public"."members"', 'VACUUM (ANALYZE) "public"."order"']
    query = "select count(*) from pg_stat_user_tables where last_vacuum is not null"
    assert deployment.connection.execute(query).fetchone() == (0,)
    tasks = run_json("maintain vacuum --table order --table members")["tasks"]
    assert [task["statement"] for task in tasks] == plan["steps"]
    assert [task["error"] for task in tasks] == [None, None]
    assert run_json("maintain vacuum --table missing", status=5)["code"] == "table-missing"
    assert run_json("maintain checkpoint")["tasks"][0]["statement"] == "CHECKPOINT"
    assert len(run_json("maintain analyze")["tasks"]) == 8
    assert run_json("maintain optimize")["tasks"] == []


def test_locked_table_does_not_block_maintenance_of_others(deployment, run_json, answer):
    with closing(deployment.connect()) as holder, holder.transaction():
        holder.execute("lock table members in access exclusive mode")
        pid = holder.info.backend_pid
        response = answer(*["maintain", "vacuum", "--timeout", "0.3"], status=12)
        failure = run_json("maintain vacuum --timeout 0 --table members", status=11)
    errors = {task["table"]: task["error"] for task in response["data"]["tasks"] if task["error"]}
    assert errors == {"members": "busy"}
    assert len(response["data"]["tasks"]) == 8
    assert str(pid) in failure["message"]


def test_failed_reindex_reports_leftover_index(deployment, run_json):
    with closing(deployment.connect()) as holder, holder.transaction():
        holder.execute("update tallies set dishes = 1")
        error = run_json("maintain reindex --timeout 0.3 --table tallies", status=11)
    assert "tallies_pkey_ccnew" in error["message"]
    line = re.search(r"DROP INDEX CONCURRENTLY .*;", error["message"])
    findings = run_json("integrity check", status=0)["findings"]
    assert [(finding["code"], finding["hint"]) for finding in findings] == [("index-leftover", line[0])]
    deployment.connection.execute(line[0])
    assert run_json("integrity check")["findings"] == []
    assert run_json("maintain reindex --table tallies")["tasks"][0]["error"] is None


def test_cancel_ends_only_the_selected_statement(deployment, run_json):
    plan = run_json("maintain cancel --older-than 1s --dry-run")["plan"]
    assert plan["steps"] == []
    with deployment.run_in_session("select pg_sleep(60)") as (pid, results):
        (step,) = run_json("maintain cancel --older-than 1s --dry-run")["plan"]["steps"]
        assert step.startswith(f"{pid}, ")
        assert step.endswith("select pg_sleep(?)")
        assert run_json(f"maintain cancel {pid}", status=6)["code"] == "confirmation-missing"
        assert run_json("maintain cancel --older-than 1h --yes")["sessions"] == []
        (result,) = run_json(f"maintain cancel {pid} --yes")["sessions"]
        assert (result["pid"], result["ended"]) == (pid, True)
    assert results == [psycopg.errors.QueryCanceled]
    assert run_json("maintain cancel 2147483647 --yes", status=5)["code"] == "session-missing"
    assert run_json("maintain cancel --yes", status=2)["code"] == "usage"
    assert run_json(f"maintain cancel {pid} --older-than 5m", status=2)["code"] == "usage"


def test_idle_transaction_is_ended_only_by_terminate(deployment, run_json):
    with closing(deployment.connect()) as idle:
        idle.execute("begin; select 1")
        time.sleep(1.1)
        assert run_json("maintain cancel --older-than 1s --yes")["sessions"] == []
        (result,) = run_json("maintain cancel --older-than 1s --terminate --yes")["sessions"]
        assert (result["pid"], result["ended"]) == (idle.info.backend_pid, True)


def test_doctor_compares_settings_with_recommendations(deployment, run_json):
    def find_low_settings():
        findings = run_json("doctor", status=None)["findings"]
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
        deployment.connection.execute(finding["hint"])
    try:
        deployment.connection.execute("select pg_reload_conf()")
        deadline = time.monotonic() + 60
        while len(findings_by_setting) > 2 and time.monotonic() < deadline:
            findings_by_setting = find_low_settings()
        assert set(findings_by_setting) == {"shared_buffers", "wal_buffers"}
        assert {finding["hint"] for finding in findings_by_setting.values()} == {""}
        assert "after a restart" in findings_by_setting["wal_buffers"]["message"]
    finally:
        deployment.connection.execute("alter system reset all")
        deployment.connection.execute("select pg_reload_conf()")


def test_doctor_reports_exactly_the_missing_privileges(deployment, run_json):
    deployment.connection.execute("create role bob login")
    try:
        deployment.connection.execute("grant select on members, options, recipes to bob")
        url = deployment.url.replace("postgres@", "bob@")
        options = f"--profile larder.toml --url pantry={url}"
        hints = [
            finding["hint"]
            for finding in run_json(f"{options} doctor", status=None)["findings"]
            if finding["hint"].startswith("GRANT")
        ]
        assert (
            'GRANT INSERT, UPDATE, DELETE ON TABLE "public"."members", "public"."options", "public"."recipes" TO "bob";'
            in hints
        )
        for line in hints:
            deployment.connection.execute(line)
        findings = run_json(f"{options} doctor", status=None)["findings"]
        assert "privilege-missing" not in [finding["code"] for finding in findings]
        run_json(f"{options} users update pip --email pip@larder.example --yes")
    finally:
        deployment.connection.execute("drop owned by bob")
        deployment.connection.execute("drop role bob")


def test_outdated_sequences_and_unvalidated_constraints_are_found(deployment, run_json):
    deployment.connection.execute("alter table recipes drop constraint recipes_member_uuid_fkey")
    deployment.connection.execute(
        "update recipes set member_uuid = gen_random_uuid() where cuisine = 'nordic'"
    )
    deployment.connection.execute(
        "alter table recipes add constraint again foreign key (member_uuid) references members not valid"
    )
    deployment.connection.execute("select setval('member_logins_id_seq', 1)")
    findings = {finding["code"]: finding for finding in run_json("integrity check", status=4)["findings"]}
    assert set(findings) == {"foreign-key-orphans", "not-validated", "sequence-behind"}
    deployment.connection.execute(findings["sequence-behind"]["hint"])
    deployment.connection.execute("delete from recipes where cuisine = 'nordic'")
    deployment.connection.execute(findings["not-validated"]["hint"])
    assert run_json("integrity check")["findings"] == []


def test_unreadable_table_does_not_hide_other_findings(deployment, run_json):
    deployment.connection.execute("create role eve login; grant select on all tables in schema public to eve")
    try:
        deployment.connection.execute(
            "revoke select on history from eve; alter table recipes drop constraint recipes_member_uuid_fkey"
        )
        deployment.connection.execute(
            "alter table recipes add constraint again foreign key (member_uuid) references members not valid"
        )
        options = f"--profile larder.toml --url pantry={deployment.url.replace('postgres@', 'eve@')}"
        findings = run_json(f"{options} integrity check", status=6)["findings"]
        hints = {finding["code"]: finding["hint"] for finding in findings if finding["severity"] != "info"}
        assert set(hints) == {"privilege-missing", "not-validated"}
        assert 'GRANT SELECT ON "public"."history" TO "eve";' in hints["privilege-missing"]
    finally:
        deployment.connection.execute("drop owned by eve; drop role eve")


def test_rows_that_a_policy_hides_are_not_missing(deployment, run_json):
    deployment.connection.execute(
        """create role eve login; grant select on all tables in schema public to eve;
        alter table members enable row level security"""
    )
    try:
        options = f"--profile larder.toml --url pantry={deployment.url.replace('postgres@', 'eve@')}"
        findings = run_json(f"{options} integrity check", status=6)["findings"]
        codes = {finding["code"] for finding in findings}
        assert "privilege-missing" in codes
        assert "foreign-key-orphans" not in codes
    finally:
        deployment.connection.execute("drop owned by eve; drop role eve")


def test_old_columns_of_pg_stat_statements_are_supported(server, deployment, run_json):
    deployment.connection.execute(
        "drop extension pg_stat_statements; create extension pg_stat_statements version '1.7'"
    )
    deployment.connection.execute("select pg_sleep(0.2)")
    deployment.connection.execute("select mean_time from pg_stat_statements limit 1")
    assert "pg_sleep" in run_json("stats slow --sort -mean_seconds")["items"][0]["query"]


def test_corrupt_page_is_found(tmp_path, monkeypatch, run_json):
    monkeypatch.chdir(tmp_path)
    with start_private() as server:
        with closing(Deployment(server.url, tmp_path).connection) as connection:
            (file,) = connection.execute("select pg_relation_filepath('recipes')").fetchone()
            connection.execute("checkpoint")
        server.stop()
        with (server.data / file).open("r+b") as page:
            page.seek(4000)
            page.write(b"\xff" * 16)
        server.start()
        findings = run_json("integrity check", status=4)["findings"]
        table_findings = run_json("integrity check --table members")["findings"]
    codes = [finding["code"] for finding in findings if finding["severity"] == "error"]
    assert "checksums-failed" in codes
    assert "corrupt" in codes
    assert any("recipes" in finding["message"] for finding in findings)
    assert table_findings == []


def test_table_without_its_file_and_value_without_its_label_are_damage_of_their_tables(deployment, run_json):
    deployment.connection.execute(
        """create type mood as enum ('calm', 'hungry'); create table moods (id integer primary key, m mood);
        insert into moods values (1, 'hungry'); delete from pg_enum where enumlabel = 'hungry'"""
    )
    ((data, file),) = deployment.connection.execute(
        "select current_setting('data_directory'), pg_relation_filepath('history')"
    )
    deployment.connection.execute("checkpoint")
    Path(data, file).unlink()
    deployment.connection.close()  # its process has the file open
    findings = run_json("integrity check", status=4)["findings"]
    damage = [finding["message"] for finding in findings if finding["code"] == "corrupt"]
    assert [message.partition(":")[0] for message in damage] == ["history", "moods"], findings
    assert file in damage[0]
    assert not [finding for finding in findings if "restore recover" in finding["hint"]]  # only for SQLite
    assert run_json("integrity check --table members")["findings"] == []
    rows = {table["table"]: table["rows"] for table in run_json("schema show", status=12)["items"]}
    assert rows.pop("history") is None
    assert rows == {table["table"]: table["rows"] for table in run_json("stats tables", status=12)["items"]}
    assert rows["members"]


@pytest.mark.parametrize("kind", ["bytea", "text", "jsonb"])
def test_value_without_its_parts_is_damage(deployment, run_json, kind):
    value = f"""('"' || repeat('x', 20000) || '"')::{kind}"""
    deployment.connection.execute(f"create table files (id integer primary key, content {kind})")
    deployment.connection.execute("alter table files alter content set storage external")
    deployment.connection.execute(f"insert into files select 1, {value}")
    ((parts,),) = deployment.connection.execute(
        "select reltoastrelid::regclass::text from pg_class where relname = 'files'"
    )
    for sql in (
        f"update pg_class set relkind = 'r' where oid = '{parts}'::regclass",
        f"delete from {parts} where chunk_seq = 1",
        f"update pg_class set relkind = 't' where oid = '{parts}'::regclass",
    ):
        deployment.connection.execute(sql)
    (finding,) = run_json("integrity check", status=4)["findings"]
    assert (finding["code"], finding["message"][:6]) == ("corrupt", "files:")


@pytest.mark.slow
def test_row_whose_text_is_too_long_is_no_damage(deployment, run_json):
    deployment.connection.execute("create table files (id integer primary key, content bytea, note text)")
    deployment.connection.execute(
        "insert into files select 1, convert_to(repeat('x', 540000000), 'UTF8'), 'a note'"
    )
    assert run_json("integrity check")["findings"] == []


@pytest.mark.slow
def test_invalid_row_ages_are_found_with_amcheck(deployment, run_json):
    deployment.connection.execute("create extension amcheck")
    assert run_json("integrity check")["findings"] == []
    deployment.connection.execute(
        "update pg_class set relfrozenxid = txid_current()::text::xid where relname = 'tallies'"
    )
    (finding,) = run_json("integrity check", status=4)["findings"]
    assert (finding["code"], finding["message"][:8]) == ("corrupt", "tallies:")
    assert run_json("integrity check --quick")["findings"] == []


@pytest.mark.slow
def test_incomplete_index_is_found_with_amcheck(server, deployment, run_json):
    deployment.connection.execute("create extension amcheck")
    deployment.connection.execute("create index by_title on recipes (title)")
    assert run_json("integrity check")["findings"] == []
    # PostgreSQL does not add rows to an index that is not ready.
    deployment.connection.execute(
        "update pg_index set indisready = false where indexrelid = 'by_title'::regclass"
    )
    deployment.connection.execute(
        "insert into recipes values (gen_random_uuid(), (select member_uuid from members limit 1), 'New', 'x', null, 1)"
    )
    deployment.connection.execute(
        "update pg_index set indisready = true where indexrelid = 'by_title'::regclass"
    )
    (finding,) = run_json("integrity check", status=4)["findings"]
    assert (finding["code"], "by_title" in finding["message"]) == ("index-damaged", True)
    run_json("maintain reindex --table recipes")
    assert run_json("integrity check")["findings"] == []
