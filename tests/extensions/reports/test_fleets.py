"""Fleets in the report: the sums of their instances, the instances that need attention, and the size of the page."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from dbctl.cli.main import main
from dbctl.model import now
from dbctl.services.events.samples import Sample, TableSample, save_samples
from tests.services.fleet_app import NAMES, create_fleet, tenant_path

GIB = 1 << 30


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A fleet, whose journal is next to it, and whose directory is the current one."""
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return create_fleet(tmp_path)


def record_samples(folder, name, sizes, *, users=4, disk="/srv"):
    """Record samples of the last days, one a day; the last is of today."""
    begin = now() - timedelta(days=len(sizes) - 1, minutes=1)
    samples = [
        Sample(
            app=f"shop/{name}",
            database="pantry",
            taken_at=begin + timedelta(days=day),
            bytes=size,
            free_bytes=50 * GIB + (len(sizes) - day) * GIB,
            disk_bytes=100 * GIB,
            disk=disk,
            users=users,
            tables={"jars": TableSample(rows=size // 10)},
            figures={"jars.open": 2.0},
        )
        for day, size in enumerate(sizes)
    ]
    save_samples(folder / "state", str(folder / "dbctl.toml"), samples)


def damage(folder, name):
    tenant_path(folder, name).write_bytes(b"damaged " * 1000)


def test_board_has_the_sums_and_the_worst_instances(shop, answer):
    assert main(["backup", "create", "--quiet"]) == 0
    singles = [answer("report", "--app", f"shop/{name}")["data"]["apps"][0] for name in NAMES]
    damage(shop, "bea")
    data = answer("report")["data"]
    (fleet,) = data["apps"]
    assert fleet["app"] == "shop"
    assert fleet["health"] == "error"
    assert fleet["instances"] == {"total": 4, "error": 1, "due": 3}
    assert fleet["databases"] == data["totals"]["databases"] == 4
    assert fleet["backup_at"] == min(single["backup_at"] for single in singles)
    assert [app["app"] for app in data["instances"]] == ["shop/bea", "shop/ada", "shop/cleo", "shop/dora"]
    assert data["instances"][1] | {"failed_runs": 0} == singles[0]
    assert sum(app["warnings"] for app in data["instances"]) == fleet["warnings"]


def test_finding_of_several_instances_is_listed_once(shop, answer):
    damage(shop, "bea")
    findings = {row["code"]: row for row in answer("report")["data"]["findings"]}
    due = findings["cleanup-due"]
    assert (due["target"], due["instances"], due["examples"]) == ("shop/pantry", 3, ["ada", "cleo", "dora"])
    assert re.fullmatch(r"\S*dbctl sessions cleanup( --config \S+)? --app shop", due["remedy"])
    damaged = findings["not-a-database"]
    assert (damaged["target"], damaged["instances"]) == ("shop/bea/pantry", 1)


def test_backups_count_the_instances_that_are_due(shop, answer):
    assert main(["backup", "create", "--quiet"]) == 0
    shutil.rmtree(shop / "backups/shop%2Fcleo")
    data = answer("report")["data"]
    (row,) = data["backups"]
    assert (row["app"], row["database"], row["backups"]) == ("shop", "pantry", 3)
    assert row["due"]["create"].startswith("1 instance (cleo) of 4")
    assert (data["totals"]["backups"], data["totals"]["due_backups"]) == (4, 1)


def test_growth_is_the_sum_of_the_instances(shop, answer):
    record_samples(shop, "ada", [1000] * 10)
    record_samples(shop, "bea", [1000 + 100 * day for day in range(10)])
    record_samples(shop, "cleo", [5000], users=1)  # a new instance
    data = answer("report")["data"]
    (database,) = data["databases"]
    growth = database["growth"]
    assert (growth["bytes"], growth["bytes_change"]) == (1000 + 1900 + 5000, 900 + 5000)
    assert growth["forecast"] == "ok"
    assert [point["bytes"] for point in database["points"]][-3:] == [2700, 2800, 7900]
    assert database["points"][-1]["users"] == data["apps"][0]["users"] == 9
    assert data["tables"][0]["rows"] == 790
    assert data["figures"][0] | {"change": None} == {
        "target": "shop/pantry",
        "name": "jars.open",
        "value": 6.0,
        "change": None,
    }
    assert [row["target"] for row in data["growing"]] == ["shop/bea/pantry"]


def test_free_space_of_several_disks_has_no_forecast(shop, answer):
    record_samples(shop, "ada", [1000] * 10)
    record_samples(shop, "bea", [1000] * 10, disk="/mnt")
    (database,) = answer("report")["data"]["databases"]
    assert (database["growth"]["free_bytes"], database["growth"]["forecast"]) == (None, "unknown")


def test_weekly_samples_are_no_growth(shop, answer):
    """The last sample of an instance before the period is its size at the beginning."""
    record_samples(shop, "ada", [1000] * 12)
    with closing(sqlite3.connect(shop / "state/events.sqlite")) as connection, connection:
        connection.execute("delete from samples where id not in (select id from samples limit 1 offset 4)")
    record_samples(shop, "bea", [2000] * 12)
    (database,) = answer("report", "--since", "6d")["data"]["databases"]
    assert {point["bytes"] for point in database["points"]} == {3000}
    assert database["growth"]["bytes_change"] == 0


def test_runs_of_the_fleet_and_of_its_instances_are_counted(shop, answer):
    damage(shop, "bea")
    assert main(["backup", "create", "--quiet"]) == 12
    assert main(["backup", "create", "--quiet", "--app", "shop/ada"]) == 0
    assert main(["backup", "create", "--quiet", "--app", "shop/b*"]) != 0
    data = answer("report")["data"]
    assert (data["totals"]["runs"], data["apps"][0]["failed_runs"]) == (3, 2)
    assert data["failures"][-1]["message"] == "1 of 4 instances failed"


def test_migration_is_listed_once_for_each_state(shop, answer):
    folder = shop / "migrations"
    folder.mkdir()
    (folder / "001_items.sql").write_text("-- migrate:up\ncreate table items (id integer);\n")
    (shop / "dbctl.toml").write_text(
        '[apps.shop]\nprofile = "plain"\ndatabases = "tenants/*/app.db"\n'
        '[apps.shop.migrations]\nmain = "migrations"\n'
    )
    for name in NAMES:
        tenant_path(shop, name).write_bytes(b"")
    assert main(["migrate", "up", "--quiet", "--app", "shop/bea"]) == 0
    data = answer("report")["data"]
    rows = {(row["app"], row["state"]): row["instances"] for row in data["migrations"]}
    assert rows == {("shop", "pending"): 3, ("shop", "applied"): 1}
    assert data["apps"][0]["pending"] == data["databases"][0]["status"]["pending"]


def test_selected_instances_are_reported(shop, answer):
    (fleet,) = answer("report", "--app", "shop/[ab]*")["data"]["apps"]
    assert fleet["instances"]["total"] == 2


def test_fleet_without_instances_does_not_prevent_the_report(shop, answer):
    plain = shop / "plain.db"
    with closing(sqlite3.connect(plain)) as connection:
        connection.execute("create table posts (id integer primary key)")
    text = (shop / "dbctl.toml").read_text()
    section = '[apps.blog]\nprofile = "plain"\ndatabases = "plain.db"\n'
    (shop / "dbctl.toml").write_text(text + section)
    shutil.rmtree(shop / "tenants")
    data = answer("report")["data"]
    assert {(app["app"], app["health"]) for app in data["apps"]} >= {("shop", "error")}
    assert "instance-listing-failed" in {finding["code"] for finding in data["findings"]}
    (shop / "dbctl.toml").write_text(text)
    assert answer("report", status=None)["error"]["code"] == "instance-listing-failed"


def test_damaged_app_does_not_prevent_the_report_of_a_fleet(shop, answer):
    text = (shop / "dbctl.toml").read_text()
    (shop / "dbctl.toml").write_text(
        f'{text}[apps.blog]\nprofile = "plain"\ndatabases = "missing/plain.db"\n'
    )
    data = answer("report")["data"]
    assert {app["app"] for app in data["apps"]} == {"blog", "shop"}


@pytest.mark.slow
def test_page_of_a_thousand_instances_is_below_one_megabyte(shop, tmp_path, answer):
    names = [f"t{index:03}" for index in range(1000)]
    for name in names:
        path = tenant_path(shop, name)
        path.parent.mkdir()
        shutil.copy(tenant_path(shop, "ada"), path)
    for name in names[:20]:
        record_samples(shop, name, [1000 + len(name) * day for day in range(30)])
    for name in names[::3]:
        damage(shop, name)
    page = tmp_path / "report.html"
    data = answer("report", "--html", str(page))["data"]
    assert data["apps"][0]["instances"]["total"] == 1004
    assert data["apps"][0]["instances"]["error"] == 334
    assert len(data["instances"]) == 20
    assert page.stat().st_size < 100_000


def test_names_of_instances_are_escaped(shop, answer, tmp_path):
    for name in ("<b>x&y", "a\n\x1b[31m\N{RIGHT-TO-LEFT OVERRIDE}"):
        shutil.copytree(shop / "tenants/ada", shop / "tenants" / name)
    page = tmp_path / "report.html"
    data = answer("report", "--html", str(page))["data"]
    assert data["apps"][0]["instances"]["error"] == 2
    text = page.read_text()
    assert "<b>" not in text
    assert not {"\x1b", "\N{RIGHT-TO-LEFT OVERRIDE}"} & set(text)
