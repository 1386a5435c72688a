"""What only a server needs, by its commands: figures of its own, doctor, integrity, maintenance, cancelling."""

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

from dbctl.cli import _reference
from dbctl.cli.main import main
from tests.profiles.test_larder import PROFILE, SCRIPTS
from tests.sandbox import private
from tests.shapes import waqtor
from tests.shapes.flashpoint_web import PASSWORD_HASH

ROOT = Path(__file__).parents[3]
SCHEMAS = json.loads(_reference.SCHEMAS.read_text(encoding="utf-8"))
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
    with private("shared_preload_libraries=pg_stat_statements", "autovacuum=off") as running:
        with closing(running.connection()) as own:
            own.execute("create extension pg_stat_statements")
        yield running


class Place:
    """A deployment of the larder in a database of its own, and a connection to it."""

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
        """Another session that is in the middle of a statement; gives its number and what became of it."""
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
                until = time.monotonic() + 20
                look = f"select from pg_stat_activity where pid = {pid} and state = 'active' and query_start < clock_timestamp() - interval '1 second'"
                while not self.own.execute(look).fetchall():
                    assert time.monotonic() < until
                    time.sleep(0.05)
                yield pid, ended
            finally:
                self.own.execute("select pg_cancel_backend(%s)", [pid])
                thread.join()


@pytest.fixture
def place(server, tmp_path, monkeypatch):
    name = f"larder_{time.time_ns():x}"
    with closing(server.connection()) as own:
        own.execute(f"create database {name}")
        own.execute("select pg_stat_statements_reset()")
        made = Place(server.url.replace("/postgres?", f"/{name}?"), tmp_path)
        monkeypatch.chdir(tmp_path)
        with closing(made.own):
            made.own.execute("create extension pg_stat_statements")
            yield made
        own.execute(f"drop database {name} with (force)")


@pytest.fixture
def ask(answer):
    def run(line, status=0):
        told = answer(*line.split(), status=status)
        if "--columns" not in line:
            schema = {**SCHEMAS["answers"][told["schema"]], "$defs": SCHEMAS["$defs"]}
            Draft202012Validator(schema).validate(told)
        return told["error"] or told["data"]

    return run


def commands():
    page = (ROOT / "docs/how-to/watch-a-server.md").read_text(encoding="utf-8")
    return [
        found[1]
        for line in page.splitlines()
        if (found := re.match(r"\| .* \| `dbctl ([^`]*)`[^|]* \|$", line))
    ]


@pytest.mark.parametrize("line", dict.fromkeys(commands()))
def test_every_question_of_the_page_has_the_command_that_it_names(line, place, ask):
    assert len(commands()) >= 22
    ask(line, status=None if line == "doctor" else 0)  # this server runs without fsync, which doctor minds


@pytest.mark.parametrize(
    "line", ["stats connections", "stats slow", "stats locks --waiting", "stats indexes"]
)
def test_figures_of_a_server_are_shown_as_a_table_too(line, place, capsys):
    assert main(line.split()) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_who_waits_for_whom_stands_in_one_row(place, ask):
    with closing(place.session()) as holder, holder.transaction():
        holder.execute("update members set mail = 'new@larder.example' where handle = 'pip'")
        with place.running("delete from members where handle = 'pip'") as (pid, _):
            (found,) = ask("stats locks --waiting")["items"]
            held = {one["pid"]: one for one in ask("stats locks")["items"]}
            mine = {one["pid"]: one for one in ask("stats connections")["items"]}
            other = holder.info.backend_pid
    assert (found["blocked_pid"], found["blocking_pid"]) == (pid, other)
    assert found["blocked_query"] == "delete from members where handle = ?"
    assert found["blocking_query"] == "update members set mail = ? where handle = ?"
    assert found["waiting_seconds"] >= 1
    assert found["blocking_seconds"] >= found["waiting_seconds"]
    assert held[pid]["waits_for"] == [other]
    assert held[other]["waits_for"] == []
    assert "RowExclusiveLock on members" in held[other]["locks"]
    assert held[pid]["locks"][0] == "ShareLock on transactionid (waiting)"
    assert held[other]["query"] == "update members set mail = ? where handle = ?"
    assert held[pid]["query"] == "delete from members where handle = ?"
    assert held[other]["transaction_seconds"] >= held[pid]["transaction_seconds"] >= 1
    assert (mine[other]["state"], mine[pid]["wait"].split(":")[0]) == ("idle in transaction", "Lock")
    assert ask("stats locks --waiting")["items"] == []


def test_statements_that_take_long_are_told_by_what_they_took(place, ask):
    place.own.execute("select pg_sleep(0.3)")
    place.own.execute("create role serverstats_x password 'secret'; drop role serverstats_x")
    items = ask("stats slow --sort -mean_seconds --limit 50")["items"]
    assert items[0]["query"] in ("select pg_sleep($1)", "select pg_sleep(?)")
    assert 0.3 <= items[0]["mean_seconds"] <= items[0]["total_seconds"]
    assert "secret" not in json.dumps(items)


def test_an_index_that_nobody_needs_is_told_with_the_one_that_does_its_work(place, ask):
    place.own.execute(
        """alter table members add constraint members_mail_key1 unique (mail);
        create unique index members_mail on members (mail);
        create index members_handle on members (handle);
        create index by_cuisine on recipes (cuisine);
        create index by_cuisine_and_title on recipes (cuisine, title);
        create index by_title on recipes (title) where cuisine is null"""
    )
    items = ask("stats indexes")["items"]
    told = {one["index"]: (one["state"], one["instead"]) for one in items if one["state"]}
    assert told == {
        "members_mail_key1": ("duplicate", "members_mail_key"),
        "members_mail": ("duplicate", "members_mail_key"),
        "members_handle": ("duplicate", "members_handle_key"),
        "by_cuisine": ("redundant", "by_cuisine_and_title"),
        "by_cuisine_and_title": ("unused", None),
        "by_title": ("unused", None),
    }
    for one in ask("stats indexes --only duplicate")["items"]:
        place.own.execute(one["drop"])
    left = {one["index"] for one in ask("stats indexes")["items"] if one["table"] == "members"}
    assert left == {"members_pkey", "members_mail_key", "members_handle_key"}


def test_the_constraints_that_an_apps_library_adds_again_and_again_are_found(server, answer):
    with closing(server.connection()) as own:
        own.execute("create database waqtor")
        try:
            url = server.url.replace("/postgres?", "/waqtor?")
            with closing(psycopg.connect(url, autocommit=True)) as made:
                waqtor.deployed(made)
                made.execute("alter table users add constraint users_email_key1 unique (email)")
            said = ["--profile", "waqtor", "--url", f"main={url}"]
            items = answer(*said, "stats", "indexes", "--only", "duplicate")["data"]["items"]
            told = {one["index"]: one["instead"] for one in items}
            assert told["users_email_key1"] == told["users_email"] == "users_email_key"
            assert told["whatsapp_sessions_client_id"] == "whatsapp_sessions_client_id_key"
            found = answer(*said, "doctor", status=None)["data"]["findings"]
            (repeated,) = [one for one in found if one["code"] == "constraint-repeated"]
            assert "users_email_key1" in repeated["message"]
            with closing(psycopg.connect(url, autocommit=True)) as made:
                for one in items:
                    made.execute(one["drop"])
            assert answer(*said, "stats", "indexes", "--only", "duplicate")["data"]["items"] == []
        finally:
            own.execute("drop database waqtor with (force)")


def test_what_was_written_is_told_by_table(place, ask):
    place.own.execute(
        "update tallies set dishes = dishes + 1; delete from recipe_labels where label = 'soup'"
    )
    place.own.execute("select pg_stat_force_next_flush()")
    told = {one["table"]: one for one in ask("stats tables")["items"]}
    assert (told["tallies"]["inserts"], told["tallies"]["updates"], told["tallies"]["rows"]) == (3, 3, 3)
    assert (told["recipe_labels"]["deletes"], told["recipe_labels"]["dead_rows"]) == (1, 1)
    ask("maintain vacuum --table recipe_labels")
    told = {one["table"]: one for one in ask("stats tables")["items"]}
    assert told["recipe_labels"]["dead_rows"] == 0
    assert told["recipe_labels"]["vacuumed_at"] is not None
    (whole,) = ask("stats overview")["items"]
    assert 0 < whole["cache_hit_ratio"] <= 1
    assert whole["max_connections"] >= whole["connections"] > 0


def test_maintenance_tells_what_it_would_do_and_does_it(place, ask):
    plan = ask("maintain vacuum --dry-run --table order --table members")["plan"]
    assert plan["steps"] == ['VACUUM (ANALYZE) "public"."members"', 'VACUUM (ANALYZE) "public"."order"']
    never = "select count(*) from pg_stat_user_tables where last_vacuum is not null"
    assert place.own.execute(never).fetchone() == (0,)
    done = ask("maintain vacuum --table order --table members")["tasks"]
    assert [one["statement"] for one in done] == plan["steps"]
    assert [one["error"] for one in done] == [None, None]
    assert ask("maintain vacuum --table gone", status=2)["code"] == "schema-lacks"
    assert ask("maintain checkpoint")["tasks"][0]["statement"] == "CHECKPOINT"
    assert len(ask("maintain analyze")["tasks"]) == 8
    assert ask("maintain optimize")["tasks"] == []


def test_a_table_that_somebody_holds_does_not_keep_the_others_from_being_looked_after(place, ask, answer):
    with closing(place.session()) as holder, holder.transaction():
        holder.execute("lock table members in access exclusive mode")
        pid = holder.info.backend_pid
        told = answer(*["maintain", "vacuum", "--timeout", "0.3"], status=12)
        alone = ask("maintain vacuum --timeout 0 --table members", status=11)
    failed = {one["table"]: one["error"] for one in told["data"]["tasks"] if one["error"]}
    assert failed == {"members": "busy"}
    assert len(told["data"]["tasks"]) == 8
    assert str(pid) in alone["message"]


def test_a_reindex_in_vain_names_what_it_left(place, ask):
    with closing(place.session()) as holder, holder.transaction():
        holder.execute("update tallies set dishes = 1")
        failed = ask("maintain reindex --timeout 0.3 --table tallies", status=11)
    assert "tallies_pkey_ccnew" in failed["message"]
    line = re.search(r"DROP INDEX CONCURRENTLY .*;", failed["message"])
    found = ask("integrity check", status=0)["findings"]
    assert [(one["code"], one["hint"]) for one in found] == [("index-left", line[0])]
    place.own.execute(line[0])
    assert ask("integrity check")["findings"] == []
    assert ask("maintain reindex --table tallies")["tasks"][0]["error"] is None


def test_what_a_session_runs_is_ended_and_nothing_else(place, ask):
    plan = ask("maintain cancel --older-than 1s --dry-run")["plan"]
    assert plan["steps"] == []
    with place.running("select pg_sleep(60)") as (pid, ended):
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


def test_a_session_that_sits_in_a_transaction_is_ended_only_with_its_connection(place, ask):
    with closing(place.session()) as idle:
        idle.execute("begin; select 1")
        time.sleep(1.1)
        assert ask("maintain cancel --older-than 1s --yes")["sessions"] == []
        (done,) = ask("maintain cancel --older-than 1s --terminate --yes")["sessions"]
        assert (done["pid"], done["ended"]) == (idle.info.backend_pid, True)


def test_doctor_compares_the_server_with_what_the_profile_recommends(place, ask):
    def below():
        told = ask("doctor", status=None)["findings"]
        return {one["message"].split()[0]: one for one in told if one["code"] == "setting-below"}

    found = below()
    assert {name: one["hint"] for name, one in found.items()} == {
        "shared_buffers": "ALTER SYSTEM SET shared_buffers = '256MB';",
        "wal_buffers": "ALTER SYSTEM SET wal_buffers = '16MB';",
        "random_page_cost": "ALTER SYSTEM SET random_page_cost = '1.1';",
        "effective_io_concurrency": "ALTER SYSTEM SET effective_io_concurrency = '200';",
    }
    assert "restart" in found["shared_buffers"]["message"]
    assert "reload" in found["random_page_cost"]["message"]
    for one in found.values():
        place.own.execute(one["hint"])
    try:
        place.own.execute("select pg_reload_conf()")
        deadline = time.monotonic() + 10
        while len(found) > 2 and time.monotonic() < deadline:
            found = below()
        assert set(found) == {"shared_buffers", "wal_buffers"}
        assert {one["hint"] for one in found.values()} == {""}
        assert "waits for a restart" in found["wal_buffers"]["message"]
    finally:
        place.own.execute("alter system reset all")
        place.own.execute("select pg_reload_conf()")


def test_doctor_names_the_rights_that_are_missing_and_no_others(place, ask):
    place.own.execute("create role bob login")
    try:
        place.own.execute("grant select on members, options, recipes to bob")
        url = place.url.replace("postgres@", "bob@")
        said = f"--profile larder.toml --url pantry={url}"
        hints = [
            one["hint"]
            for one in ask(f"{said} doctor", status=None)["findings"]
            if one["hint"].startswith("GRANT")
        ]
        assert (
            'GRANT INSERT, UPDATE, DELETE ON TABLE "public"."members", "public"."options", "public"."recipes" TO "bob";'
            in hints
        )
        for line in hints:
            place.own.execute(line)
        told = ask(f"{said} doctor", status=None)["findings"]
        assert "privilege-missing" not in [one["code"] for one in told]
        ask(f"{said} users update pip --email pip@larder.example --yes")
    finally:
        place.own.execute("drop owned by bob")
        place.own.execute("drop role bob")


def test_sequences_behind_their_columns_and_rules_never_proven_are_found(place, ask):
    place.own.execute("alter table recipes drop constraint recipes_member_uuid_fkey")
    place.own.execute("update recipes set member_uuid = gen_random_uuid() where cuisine = 'nordic'")
    place.own.execute(
        "alter table recipes add constraint again foreign key (member_uuid) references members not valid"
    )
    place.own.execute("select setval('member_logins_id_seq', 1)")
    found = {one["code"]: one for one in ask("integrity check", status=4)["findings"]}
    assert set(found) == {"foreign-key-orphans", "not-validated", "sequence-behind"}
    place.own.execute(found["sequence-behind"]["hint"])
    place.own.execute("delete from recipes where cuisine = 'nordic'")
    place.own.execute(found["not-validated"]["hint"])
    assert ask("integrity check")["findings"] == []


def test_a_table_that_may_not_be_read_does_not_hide_what_is_wrong_with_others(place, ask):
    place.own.execute("create role eve login; grant select on all tables in schema public to eve")
    try:
        place.own.execute(
            "revoke select on history from eve; alter table recipes drop constraint recipes_member_uuid_fkey"
        )
        place.own.execute(
            "alter table recipes add constraint again foreign key (member_uuid) references members not valid"
        )
        said = f"--profile larder.toml --url pantry={place.url.replace('postgres@', 'eve@')}"
        told = ask(f"{said} integrity check", status=6)["findings"]
        found = {one["code"]: one["hint"] for one in told if one["severity"] != "info"}
        assert set(found) == {"privilege-missing", "not-validated"}
        assert 'GRANT SELECT ON "public"."history" TO "eve";' in found["privilege-missing"]
    finally:
        place.own.execute("drop owned by eve; drop role eve")


def test_the_old_names_of_what_is_remembered_are_understood(server, place, ask):
    place.own.execute("drop extension pg_stat_statements; create extension pg_stat_statements version '1.7'")
    place.own.execute("select pg_sleep(0.2)")
    place.own.execute("select mean_time from pg_stat_statements limit 1")
    assert "pg_sleep" in ask("stats slow --sort -mean_seconds")["items"][0]["query"]


def test_a_page_that_the_disk_changed_is_found(tmp_path, monkeypatch, ask):
    monkeypatch.chdir(tmp_path)
    with private() as alone:
        with closing(Place(alone.url, tmp_path).own) as own:
            (file,) = own.execute("select pg_relation_filepath('recipes')").fetchone()
            own.execute("checkpoint")
        alone.stop()
        with (alone.data / file).open("r+b") as page:
            page.seek(4000)
            page.write(b"\xff" * 16)
        alone.start()
        found = ask("integrity check", status=4)["findings"]
        told = ask("integrity check --table members")["findings"]
    codes = [one["code"] for one in found if one["severity"] == "error"]
    assert "checksums-failed" in codes
    assert "corrupt" in codes
    assert any("recipes" in one["message"] for one in found)
    assert told == []


def test_rows_that_are_older_than_their_table_may_hold_are_found_where_amcheck_is(place, ask):
    place.own.execute("create extension amcheck")
    assert ask("integrity check")["findings"] == []
    place.own.execute(
        "update pg_class set relfrozenxid = txid_current()::text::xid where relname = 'tallies'"
    )
    (found,) = ask("integrity check", status=4)["findings"]
    assert (found["code"], found["message"][:8]) == ("corrupt", "tallies:")
    assert ask("integrity check --quick")["findings"] == []


def test_an_index_that_its_table_does_not_agree_with_is_found_where_amcheck_is(server, place, ask):
    place.own.execute("create extension amcheck")
    place.own.execute("create index by_title on recipes (title)")
    assert ask("integrity check")["findings"] == []
    # rows of the table go behind the back of the index
    place.own.execute("update pg_index set indisready = false where indexrelid = 'by_title'::regclass")
    place.own.execute(
        "insert into recipes values (gen_random_uuid(), (select member_uuid from members limit 1), 'New', 'x', null, 1)"
    )
    place.own.execute("update pg_index set indisready = true where indexrelid = 'by_title'::regclass")
    (found,) = ask("integrity check", status=4)["findings"]
    assert (found["code"], "by_title" in found["message"]) == ("index", True)
    ask("maintain reindex --table recipes")
    assert ask("integrity check")["findings"] == []
