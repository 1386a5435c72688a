"""Commands on all instances of a fleet: boards, lists, changes, canaries, resumed runs, bad input."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sqlite3
from contextlib import closing

import pytest

from dbctl.cli.main import main
from tests.services.fleet_app import NAMES, create_fleet, tenant_path

APPS = [f"shop/{name}" for name in NAMES]


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """Records of runs are next to the test, and commands run in its folder."""
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("DBCTL_APP", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shop(state):
    return create_fleet(state)


@pytest.fixture
def run(capsys):
    """Run a command as in a pipe, and return its lines on standard output; assert the exit code."""

    def run_command(*words, status=0):
        capsys.readouterr()
        exit_code = main([*words])
        captured = capsys.readouterr()
        assert exit_code == status, captured.err
        return captured.out.splitlines()

    return run_command


def query(folder, name, sql):
    with closing(sqlite3.connect(tenant_path(folder, name))) as connection, connection:
        return connection.execute(sql).fetchall()


def states(answer):
    return {item["app"]: item["state"] for item in answer["data"]["items"]}


def codes(answer):
    return {
        item["app"].partition("/")[2]: item["error"]["code"]
        for item in answer["data"]["items"]
        if item["error"]
    }


def damage(folder, name):
    tenant_path(folder, name).write_bytes(b"damaged " * 1000)


# Status ---------------------------------------------------------------------------------------------------------


def test_board_lists_the_damaged_tenant_only(shop, run, answer):
    for words in (["backup", "create"], ["sessions", "cleanup"]):
        answer(*words)
    assert run("status", "--check") == []
    damage(shop, "bea")
    tenant_path(shop, "dora").unlink()
    header, *lines = run("status", "--check", status=12)
    assert header.split()[:3] == ["app", "database", "state"]
    assert [line.split()[:3] for line in lines] == [
        ["shop/dora", "pantry", "database-missing"],
        ["shop/bea", "pantry", "not-a-database"],
    ]
    assert len(run("status", "--all")) == 1 + len(NAMES)
    everything = answer("status")
    assert everything["schema"] == "dbctl.fleet/1"
    assert [everything["data"][state] for state in ("done", "failed", "skipped")] == [2, 2, 0]
    assert {item["data"]["items"][0]["state"] for item in everything["data"]["items"]} == {
        "ok",
        "not-a-database",
        "database-missing",
    }


def test_damaged_tenant_did_not_answer(shop, answer):
    damage(shop, "bea")
    response = answer("wait", "--timeout", "0", status=12)
    assert states(response) == dict.fromkeys(APPS, "done") | {"shop/bea": "failed"}


def test_commands_of_hints_repeat_the_options(shop, answer):
    words = "--config", "dbctl.toml", "backup", "verify", "--repository", "other backups"
    for item in answer(*words, status=10)["data"]["items"]:
        options = f"--config {shop / 'dbctl.toml'} --repository 'other backups' --app {item['app']}"
        assert item["error"]["hint"].endswith(f"backup create {options}")


def test_board_contains_fleets_and_other_apps(shop, run):
    with (shop / "dbctl.toml").open("a") as file:
        file.write('[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\n')
    sqlite3.connect(shop / "blog.db").execute("create table t (id integer primary key)")
    rows = [line.split()[0] for line in run("status", "--all")]
    assert sorted(rows) == sorted(["app", *APPS, "blog"])
    assert [line.split()[0] for line in run("status", "--all", "--app", "blog")] == ["app", "blog"]


def test_fleet_without_a_list_and_app_with_an_error_do_not_hide_the_others(shop, answer):
    with (shop / "dbctl.toml").open("a") as file:
        file.write(
            '[apps.gone]\nprofile = "plain"\ndatabases = "gone/*/app.db"\n'
            '[apps.bad]\nprofile = "plain"\ndatabases = "postgresql://shop:${LOST}@127.0.0.1/shop"\n'
        )
    for words in (("status", "--check"), ("backup", "status", "--all-apps"), ("doctor", "--all-apps")):
        result = answer(*words, status=12)
        assert {**dict.fromkeys(APPS, "done"), "gone": "failed", "bad": "failed"} == states(result)
        errors = {item["app"]: item["error"]["code"] for item in result["data"]["items"] if item["error"]}
        assert errors == {"gone": "instance-listing-failed", "bad": "config-invalid"}
    answer("status", "--app", "gone", status=10)


def test_list_of_instances_contains_a_fleet_that_cannot_be_listed(shop, answer):
    with (shop / "dbctl.toml").open("a") as file:
        file.write('[apps.gone]\nprofile = "plain"\ndatabases = "gone/*/app.db"\n')
    *listed, last = answer("apps", "instances", status=4)["data"]["items"]
    assert [item["app"] for item in listed] == APPS
    assert (last["app"], last["address"]) == ("gone", None)
    assert last["problem"]


def test_backup_that_is_due_is_the_exit_code_of_check(shop, run):
    text = (shop / "dbctl.toml").read_text()
    (shop / "dbctl.toml").write_text(text + 'max_age = "26h"\n')
    run("status", status=0)
    run("status", "--check", status=3)


# Lists ----------------------------------------------------------------------------------------------------------


def test_lists_are_combined_in_the_order_of_the_instances(shop, run):
    lines = run("users", "list", "--columns", "app,handle", "-o", "csv")
    assert len(lines) == 1 + 4 * len(NAMES)
    assert [line.split(",")[0] for line in lines[1::4]] == APPS
    page = run("users", "list", "--columns", "app,handle", "-o", "csv", "--limit", "3", "--offset", "2")
    assert page == [lines[0], *lines[3:6]]


def test_instance_is_addressed_like_an_app(shop, answer, monkeypatch):
    assert answer("users", "list", "--app", "shop/ada")["data"]["total"] == 4
    monkeypatch.setenv("DBCTL_APP", "shop/bea")
    assert answer("users", "show", "pip")["target"] == "shop/bea/pantry"
    assert answer("users", "list", "--app", "shop/nobody", status=10)["error"]["code"] == "database-missing"
    assert (
        answer("users", "list", "--app", "shop/../ada", status=2)["error"]["code"] == "instance-name-invalid"
    )


def test_pattern_limits_the_instances(shop, answer):
    assert set(states(answer("users", "list", "--app", "shop/?[de]a"))) == {"shop/ada", "shop/bea"}
    assert answer("users", "list", "--app", "shop/x*", status=5)["error"]["code"] == "fleet-empty"


def test_query_runs_on_all(shop, run):
    query(shop, "cleo", "delete from member_logins")
    lines = run("data", "query", "select count(*) as n from members", "-o", "csv")
    assert lines == ["app,n", *[f"{app},4" for app in APPS]]


def test_json_lines_are_one_per_instance(shop, run):
    lines = [json.loads(line) for line in run("users", "list", "-o", "jsonl")]
    assert sorted(line["app"] for line in lines) == APPS
    assert {line["data"]["total"] for line in lines} == {4}


# Changes --------------------------------------------------------------------------------------------------------


def is_enabled(folder, name, handle):
    return query(folder, name, f"select enabled from members where handle = '{handle}'") == [(1,)]


def test_user_is_deactivated_where_present(shop, answer):
    query(shop, "bea", "update members set handle = 'other' where handle = 'ana'")
    result = answer("users", "deactivate", "ana")
    assert states(result) == dict.fromkeys(APPS, "done") | {"shop/bea": "skipped"}
    assert not any(is_enabled(shop, name, "ana") for name in ("ada", "cleo", "dora"))
    assert is_enabled(shop, "bea", "other")
    assert answer("users", "deactivate", "nobody", status=5)["data"]["skipped"] == len(NAMES)


def test_several_users_and_standard_input_are_refused(shop, answer):
    assert answer("users", "deactivate", "ana", "olav", status=2)["error"]["code"] == "usage"
    assert answer("users", "deactivate", "-", status=2)["error"]["code"] == "usage"
    assert all(is_enabled(shop, name, "ana") for name in NAMES)


def test_dry_run_shows_one_plan_and_changes_nothing(shop, run, answer):
    lines = run("users", "delete", "ana", "--dry-run")
    assert any("4 instances: " in line for line in lines)
    assert ["members", "4"] in [line.split() for line in lines]
    plans = answer("users", "delete", "ana", "--dry-run")["data"]["items"]
    assert [item["data"]["plan"]["rows"]["members"] for item in plans] == [1] * len(NAMES)
    assert all(is_enabled(shop, name, "ana") for name in NAMES)


def test_plan_of_all_does_not_name_the_backups_of_one(shop, run):
    folder = shop / "shop" / f"{NAMES[0]}s"  # its path contains the name of an instance
    title = run("backup", "create", "--repository", str(folder), "--dry-run")[0]
    assert title == f"Back up to {folder}/INSTANCE, on 4 instances (shop)"


def test_deletion_is_confirmed_once(shop, answer):
    assert answer("users", "delete", "ana", status=6)["error"]["code"] == "confirmation-missing"
    assert all(is_enabled(shop, name, "ana") for name in NAMES)
    assert answer("users", "delete", "ana", "--yes")["data"]["done"] == len(NAMES)
    assert not any(is_enabled(shop, name, "ana") for name in NAMES)


def test_protected_fleet_requires_its_name(state, answer):
    create_fleet(state, extra="protected = true")
    assert answer("users", "delete", "ana", "--yes", status=6)["error"]["code"] == "confirmation-missing"
    assert (
        answer("users", "delete", "ana", "--confirm", "ada", status=6)["error"]["code"]
        == "confirmation-wrong"
    )
    assert all(is_enabled(state, name, "ana") for name in NAMES)
    assert answer("users", "delete", "ana", "--confirm", "shop")["data"]["done"] == len(NAMES)


def test_last_admin_of_each_instance_remains(shop, answer):
    result = answer("users", "delete", "pip", "--yes", status=6)
    assert set(codes(result).values()) == {"last-admin"}
    assert all(is_enabled(shop, name, "pip") for name in NAMES)


# Backups --------------------------------------------------------------------------------------------------------


def test_damaged_tenant_fails_and_the_others_are_backed_up(shop, answer):
    damage(shop, "cleo")
    result = answer("backup", "create", status=12)
    assert codes(result) == {"cleo": "not-a-database"}
    assert [result["data"][state] for state in ("done", "failed", "skipped")] == [3, 1, 0]
    assert answer("backup", "list", "--app", "shop/ada")["data"]["total"] == 1
    again = answer("backup", "create", "--resume", status=12)
    assert states(again) == dict.fromkeys(APPS, "skipped") | {"shop/cleo": "failed"}


def test_instance_is_restored_alone(shop, answer):
    answer("backup", "create")
    for name in ("ada", "bea"):
        query(shop, name, "delete from recipes")
    answer("restore", "apply", "latest", "--app", "shop/ada", "--yes")
    assert query(shop, "ada", "select count(*) > 0 from recipes") == [(1,)]
    assert query(shop, "bea", "select count(*) from recipes") == [(0,)]
    assert answer("backup", "verify")["data"]["done"] == len(NAMES)


def test_prune_deletes_in_each_repository(shop, answer):
    for name in ("ada", "bea"):
        answer("backup", "create", "--app", f"shop/{name}")
    source = shop / "backups/shop%2Fada"
    (newest,) = (path for path in source.iterdir() if path.name[0].isdigit())
    older = source / "20200101_000000"
    shutil.copytree(newest, older)
    manifest = next(older.glob("*.json"))
    manifest.write_text(manifest.read_text().replace(newest.name, older.name))
    result = answer("backup", "prune", "--dry-run", "--app", "shop/[ab]*", status=None)
    assert set(states(result)) == {"shop/ada", "shop/bea"}


def test_locked_tenant_is_busy_and_the_others_are_done(shop, answer):
    with closing(sqlite3.connect(tenant_path(shop, "bea"), isolation_level=None)) as connection:
        connection.execute("begin exclusive")
        result = answer("users", "deactivate", "ana", "--timeout", "0", status=12)
    assert codes(result) == {"bea": "busy"}
    assert states(result)["shop/ada"] == "done"


def test_two_names_of_one_database_are_processed_once(shop, answer):
    link = tenant_path(shop, "zoe")
    link.parent.mkdir()
    link.hardlink_to(tenant_path(shop, "ada"))
    result = answer("users", "list", status=12)
    assert codes(result) == {"zoe": "instance-duplicate"}
    listed = answer("apps", "instances", status=4)["data"]["items"]
    assert [item["app"] for item in listed if item["problem"]] == ["shop/zoe"]


def test_run_with_a_tenant_whose_name_is_not_utf8_is_recorded(shop, answer):
    name = os.fsdecode(b"caf\xe9")
    tenant_path(shop, name).parent.mkdir()
    result = answer("backup", "create", status=12)
    assert not result["warnings"]
    (listed,) = answer("runs", "list", "--command", "backup create")["data"]["items"]
    assert (listed["result"], listed["exit_code"]) == ("partial", 12)
    assert answer("runs", "show", str(listed["id"]))["data"]["command"] == "backup create"
    items = answer("runs", "list", "--app", f"shop/{name}")["data"]["items"]
    assert [item["id"] for item in items] == [listed["id"]]


def test_findings_of_all_are_combined(shop, run):
    query(shop, "bea", "insert into recipe_labels (recipe_uuid, label) values ('none', 'x')")
    header, *lines = run("integrity", "check", "-o", "csv", status=4)
    assert header.startswith("target,severity,code")
    assert {line.split(",")[0] for line in lines if ",error," in line} == {"shop/bea/pantry"}


# Migrations -----------------------------------------------------------------------------------------------------

FIRST = "-- migrate:up\ncreate table items (id integer primary key, name text);\n-- migrate:down\ndrop table items;\n"
SECOND = "-- migrate:up\ncreate unique index item_names on items (name);\n-- migrate:down\ndrop index item_names;\n"


@pytest.fixture
def migrated(state, answer):
    """Four plain databases with the first of two migrations."""
    (state / "migrations").mkdir()
    (state / "migrations/001_items.sql").write_text(FIRST)
    (state / "dbctl.toml").write_text(
        '[apps.shop]\nprofile = "plain"\ndatabases = "tenants/*/app.db"\n[apps.shop.migrations]\nmain = "migrations"\n'
    )
    for name in NAMES:
        path = tenant_path(state, name)
        path.parent.mkdir(parents=True)
        sqlite3.connect(path).close()
        path.touch()
    answer("migrate", "up")
    (state / "migrations/002_names.sql").write_text(SECOND)
    return state


def break_second(folder, *names):
    for name in names:
        query(folder, name, "insert into items (name) values ('x'), ('x')")


def list_migrated(folder):
    return [
        name for name in NAMES if query(folder, name, "select 1 from sqlite_master where name = 'item_names'")
    ]


def test_migrations_run_on_all(migrated, answer, run):
    assert run("migrate", "status", "--check", status=3)
    result = answer("migrate", "up")
    assert result["data"]["done"] == len(NAMES)
    assert list_migrated(migrated) == list(NAMES)
    run("migrate", "status", "--check")
    assert answer("migrate", "up")["data"]["done"] == len(NAMES)


def test_failed_canary_stops_the_run(migrated, answer):
    break_second(migrated, "ada")
    result = answer("migrate", "up", status=1)
    assert states(result) == dict.fromkeys(APPS, "skipped") | {"shop/ada": "failed"}
    assert list_migrated(migrated) == []
    assert answer("migrate", "up", "--canary", "0", status=12)["data"]["done"] == 3
    assert list_migrated(migrated) == ["bea", "cleo", "dora"]


def test_failure_after_the_canary_does_not_stop_the_others(migrated, answer):
    break_second(migrated, "bea")
    result = answer("migrate", "up", status=12)
    assert codes(result) == {"bea": "migration-failed"}
    assert list_migrated(migrated) == ["ada", "cleo", "dora"]


def test_damaged_instance_is_no_canary(migrated, answer):
    tenant_path(migrated, "ada").write_bytes(b"damaged " * 1000)
    result = answer("migrate", "up", status=12)
    assert codes(result) == {"ada": "not-a-database"}
    assert result["data"]["done"] == 3


def test_resumed_run_has_no_canary(migrated, answer):
    break_second(migrated, "bea", "cleo")
    answer("migrate", "up", status=12)
    query(migrated, "cleo", "delete from items")
    result = answer("migrate", "up", "--resume", status=12)
    assert states(result) == {
        "shop/ada": "skipped",
        "shop/bea": "failed",
        "shop/cleo": "done",
        "shop/dora": "skipped",
    }


def test_maximum_of_failures_stops_the_run(migrated, answer):
    break_second(migrated, "bea", "cleo")
    result = answer("migrate", "up", "--max-failures", "1", "--jobs", "1", status=12)
    assert codes(result) == {
        "bea": "migration-failed",
        "cleo": "instance-skipped",
        "dora": "instance-skipped",
    }
    assert list_migrated(migrated) == ["ada"]


def test_configured_canary_is_first(migrated, answer):
    with (migrated / "dbctl.toml").open("a") as file:
        file.write('[apps.shop.instances]\ncanaries = ["cleo"]\n')
    break_second(migrated, "cleo")
    assert codes(answer("migrate", "up", status=1))["cleo"] == "migration-failed"
    assert list_migrated(migrated) == []


def test_instance_without_pending_migrations_is_no_canary(migrated, answer):
    answer("migrate", "up", "--app", "shop/ada")
    break_second(migrated, "bea")
    result = answer("migrate", "up", status=12)
    assert states(result) == {
        "shop/ada": "done",
        "shop/bea": "failed",
        "shop/cleo": "skipped",
        "shop/dora": "skipped",
    }


def test_canary_with_damage_stops_the_run(migrated, answer):
    query(migrated, "ada", "create table parts (item integer references items (id))")
    query(migrated, "ada", "insert into parts values (99)")
    assert codes(answer("migrate", "up", status=4))["ada"] == "canary-failed"
    assert list_migrated(migrated) == ["ada"]


def test_deleted_tenant_is_not_created_again(migrated, answer):
    tenant_path(migrated, "dora").unlink()
    result = answer("migrate", "up", status=12)
    assert codes(result) == {"dora": "database-missing"}
    assert answer("migrate", "up", "--app", "shop/eve", status=10)["error"]["code"] == "database-missing"
    assert not tenant_path(migrated, "dora").exists()


def test_dry_run_of_migrations_has_no_canary(migrated, run):
    break_second(migrated, "ada")
    lines = run("migrate", "up", "--dry-run")
    assert any(line.split()[1:3] == ["4", "instances:"] for line in lines)
    assert list_migrated(migrated) == []


def test_damaged_tenant_is_partial_without_check(migrated, answer):
    tenant_path(migrated, "ada").write_bytes(b"damaged " * 1000)
    assert codes(answer("migrate", "status", status=12)) == {"ada": "not-a-database"}


# Options and other commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ["data rows members", "settings list", "restore apply latest --yes", "migrate down"]
)
def test_other_commands_require_an_instance(shop, answer, line):
    assert answer(*line.split(), status=2)["error"]["code"] == "fleet-selected"


@pytest.mark.parametrize("line", ["users list", "status", "backup create", "migrate status"])
def test_options_of_fleets_are_refused_for_an_instance(shop, answer, line):
    for option in (["--jobs", "2"], ["--resume"], ["--canary", "1"], ["--max-failures", "3"]):
        words = [*line.split(), *option, "--app", "shop/ada"]
        assert answer(*words, status=2)["error"]["code"] == "fleet-required"


@pytest.mark.parametrize(
    "line",
    [
        "users list --columns login",
        "status --resume",
        "users list --resume",
        "backup create --canary 1",
        "status --jobs 0",
        "status --jobs 999",
    ],
)
def test_impossible_options_are_refused(shop, answer, line):
    assert answer(*line.split(), status=2)["error"]["code"] == "usage"


def test_unknown_column_does_not_hide_that_changes_were_applied(shop, run):
    run("users", "list", "-o", "csv", "--columns", "nonsense", status=2)
    run("users", "deactivate", "ana", "-o", "csv", "--columns", "nonsense")
    assert not any(is_enabled(shop, name, "ana") for name in NAMES)


def test_resume_without_a_run_is_not_found(shop, answer):
    assert answer("backup", "create", "--resume", status=5)["error"]["code"] == "run-missing"


def test_run_without_home_is_not_recorded_but_works(shop, answer, state):
    (state / "state").write_text("a file")
    result = answer("backup", "create")
    assert result["data"]["done"] == len(NAMES)
    assert len(result["warnings"]) == 1


def test_crontab_has_one_line_for_the_fleet(shop, run):
    lines = [line for line in run("schedule", "cron") if " backup create " in line]
    assert len(lines) == 1
    assert lines[0].endswith("--app shop --quiet")


def test_other_app_commands_accept_a_fleet(shop, answer):
    assert answer("apps", "list")["data"]["total"] == 1
    assert answer("apps", "show", "--app", "shop")["data"]["app"] == "shop"
    assert answer("apps", "check")["exit_code"] == 0
    assert set(states(answer("apps", "check", "--app", "shop", status=None))) == set(APPS)
    assert set(states(answer("doctor", "--app", "shop", status=None))) == set(APPS)


def test_answer_matches_its_schema(shop, answer):
    from jsonschema import Draft202012Validator

    from tools import reference

    schemas = json.loads(reference.SCHEMAS.read_text(encoding="utf-8"))
    damage(shop, "ada")
    result = answer("backup", "create", status=12)
    Draft202012Validator({**schemas["answers"][result["schema"]], "$defs": schemas["$defs"]}).validate(result)


#: One line of each kind of result: a list, a change, a check, and one value for each instance.
IN_EACH_FORMAT = {"roles list", "settings set kitchen.title Shelf", "doctor", "stats overview"}


@pytest.mark.parametrize(
    "line",
    [
        "users set-role ana guest",
        "users deactivate --inactive 1d --dry-run",
        "settings set kitchen.title Shelf",
        "settings get kitchen.title",
        "settings validate",
        "sessions revoke ana",
        "sessions cleanup",
        "roles list",
        "backup verify",
        "backup drill",
        "backup prune --yes",
        "integrity repair --yes",
        "maintain analyze",
        "maintain vacuum",
        "stats overview",
        "stats tables",
        "search index status",
        "search index check",
        "search index build",
        "data query 'select 1 as n'",
        "doctor",
    ],
)
def test_command_runs_on_each_instance(shop, answer, line):
    """Some are impossible for the app, such as a repair across databases: then the code is the same on each."""
    words = shlex.split(line)
    if words[0] == "backup":
        answer("backup", "create")
    result = answer(*words, status=None)
    assert set(states(result)) == set(APPS)
    assert len({item["exit_code"] for item in result["data"]["items"]}) == 1
    assert "internal" not in codes(result).values()
    assert "worker-ended" not in codes(result).values()
    if line in IN_EACH_FORMAT:
        for output_format in ("table", "csv"):
            assert main([*words, "-o", output_format]) in (result["exit_code"], 0)
