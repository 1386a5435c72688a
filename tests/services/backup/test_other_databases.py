"""Two deployments whose apps have the same name use one repository; and a database is moved."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing

import pytest

from dbctl.config import environment
from dbctl.services.backup import manifest as backup_manifest
from dbctl.url import parse_url
from tests.services import larder_app
from tests.services.promptvault_app import open_repository

MACHINE = os.uname().nodename.partition(".")[0]


class Deployment:
    """A folder with a configuration whose repository is that of the other deployments, too."""

    def __init__(self, folder, answer, settings=""):
        self.folder, self.path, self._answer = folder, folder / "app.db", answer
        folder.mkdir()
        for name in ("app.db", "jobs.db"):
            with closing(sqlite3.connect(folder / name)) as file, file:
                file.execute("create table t (id integer primary key, text)")
        self.configure('main = "app.db"', settings)

    def configure(self, databases, settings=""):
        (self.folder / "profile.toml").write_text(
            'schema = "dbctl.profile/1"\nname = "shop"\ntitle = "Shop"\n[databases.main]\nengines = ["sqlite"]\nneeds = ["t"]\n'
            '[databases.jobs]\nengines = ["sqlite"]\nneeds = ["t"]\noptional = true\n'
        )
        (self.folder / "dbctl.toml").write_text(
            f'[apps.shop]\nprofile = "profile.toml"\n[apps.shop.databases]\n{databases}\n'
            f'[apps.shop.backup]\nrepository = "{self.folder.parent}/backups"\n{settings}\n'
        )

    @property
    def address(self):
        return f"{MACHINE}:{self.path}"

    def insert(self, count):
        with closing(sqlite3.connect(self.path)) as file, file:
            file.executemany("insert into t (text) values (?)", [[os.urandom(8).hex()] for _ in range(count)])

    def count(self):
        with closing(sqlite3.connect(self.path)) as file:
            return file.execute("select count(*) from t").fetchone()[0]

    def run(self, *words, status=0):
        return self._answer("--config", str(self.folder / "dbctl.toml"), *words, status=status)

    def back_up(self, count=1):
        return [self.run("backup", "create")["data"]["id"] for _ in range(count)]

    def list_ids(self):
        return [item["id"] for item in reversed(self.run("backup", "list")["data"]["items"])]

    def read_status(self):
        (database,) = self.run("backup", "status")["data"]["databases"]
        return database


@pytest.fixture
def first(tmp_path, answer):
    return Deployment(tmp_path / "first", answer)


@pytest.fixture
def second(first, tmp_path, answer):
    return Deployment(tmp_path / "second", answer)


def test_rules_apply_to_the_backups_of_the_own_database_only(first, second):
    old, other, middle, another, newest = (
        deployment.back_up()[0] for deployment in (first, second, first, second, first)
    )
    steps = first.run("backup", "prune", "--keep-last", "2", "--dry-run")["data"]["plan"]["steps"]
    assert [step.split()[1].rstrip(":") for step in steps if step.startswith("delete")] == [old]
    assert steps[0].endswith("newer ones retained: 2 of main")
    assert f"retain {other}: of another database: {second.address}" in steps
    assert steps[-1].startswith(f"not counted: 2 backups of another database, {second.address}. No rule")
    assert f"backup prune --moved {second.address}" in steps[-1]
    pruned = first.run("backup", "prune", "--keep-last", "2", "--yes")["data"]
    assert (pruned["deleted"], pruned["others"]) == ([old], {second.address: 2})
    assert second.list_ids() == [other, middle, another, newest]
    # The space of the others is not that of the app; within its own, only its newest one is protected.
    assert first.run("backup", "prune", "--max-bytes", "1", "--yes")["data"]["deleted"] == [middle]
    assert second.run("backup", "prune", "--keep-last", "1", "--yes")["data"]["deleted"] == [other]
    assert first.list_ids() == [another, newest]


def test_status_counts_the_backups_of_the_own_database_only(first, second):
    second.insert(100)
    second.back_up(3)
    settings = 'max_age = "1h"'
    first.configure('main = "app.db"', settings)
    status = first.read_status()
    assert (status["newest"], status["backups"], status["others"]) == (None, 0, {second.address: 3})
    assert status["due"] == {"create": "no backup exists"}
    assert first.run("backup", "status", "--check", status=3)
    (own,) = first.back_up()
    second.back_up()
    status = first.read_status()
    assert (status["newest"], status["backups"], status["due"]) == (own, 1, {})
    assert status["shrunken"] is None  # the backups of the other database have more rows
    result = first.run("backup", "status")
    message = f"not counted: 4 backups of another database, {second.address}"
    assert message in json.dumps(result)
    assert message in json.dumps(first.run("status", status=None))
    notes = {item["id"]: item.get("note", "") for item in first.run("backup", "list")["data"]["items"]}
    assert notes.pop(own) == ""
    assert set(notes.values()) == {f"of {second.address}"}


def test_latest_is_of_the_own_database_if_there_is_one(first, second):
    first.insert(1)
    second.insert(2)
    second.back_up()
    (step,) = read_contents(first.run("restore", "apply", "latest", "--dry-run"))
    assert step.endswith(f"a backup of {second.address}")
    drill = ("backup", "drill", "--dry-run")
    assert f"a backup of {second.address}" in first.run(*drill)["data"]["plan"]["steps"][0]
    first.back_up()
    second.back_up()
    assert "a backup of" not in first.run(*drill)["data"]["plan"]["steps"][0]
    (step,) = read_contents(first.run("restore", "apply", "latest", "--dry-run"))
    assert step.endswith("(1 row of 1 table)")
    (drilled,) = first.run("backup", "drill")["data"]["databases"]
    assert drilled["rows"] == 1
    second.run("restore", "apply", "latest", "--yes")
    error = first.run("restore", "undo", "--yes", status=None)["error"]
    assert (error["code"], f"of another database, {second.address}" in error["hint"]) == (
        "undo-missing",
        True,
    )
    first.insert(4)
    first.run("restore", "apply", "latest", "--yes")
    second.run("restore", "apply", "latest", "--yes")
    first.run("restore", "undo", "--yes")
    assert (first.count(), second.count()) == (5, 2)


def read_contents(planned):
    return [step for step in planned["data"]["plan"]["steps"] if step.startswith("replace the contents")]


def test_last_backup_of_each_database_is_not_deleted(first, second):
    (own,), (other,) = first.back_up(), second.back_up()
    for name in (own, other):
        assert first.run("backup", "delete", name, "--yes", status=None)["error"]["code"] == "last-backup"
    first.back_up()
    first.run("backup", "delete", own, "--yes")


def test_backups_of_a_moved_database_remain_until_moved_is_stated(first):
    old, address = first.back_up(3), first.address
    first.path.rename(first.folder / "new.db")
    first.configure('main = "new.db"')
    assert first.run("backup", "prune", "--keep-last", "1", "--yes")["data"]["deleted"] == []
    assert first.read_status()["newest"] is None
    new = first.back_up(2)
    first.run("backup", "pin", old[0], "--reason", "audit")
    words = ("backup", "prune", "--keep-last", "3", "--yes")
    assert first.run(*words)["data"]["others"] == {address: 3}
    result = first.run(*words, "--moved", address)["data"]
    assert (result["deleted"], result["others"]) == ([old[1]], {})
    assert first.list_ids() == [old[0], old[2], *new]


def test_moved_concerns_the_backups_of_the_stated_address_only(first, second):
    old, others = first.back_up(2), second.back_up(2)
    former = first.address
    first.path.rename(first.folder / "new.db")
    first.configure('main = "new.db"')
    new, newest = first.back_up(), second.back_up()
    prune = ("backup", "prune", "--keep-last", "2", "--yes", "--moved", former)
    error = first.run(*prune, "--moved", f"{former}x", status=2)["error"]
    assert f"no backup is of {former}x" in error["message"]
    result = first.run(*prune)["data"]
    assert (result["deleted"], result["others"]) == (old[:1], {second.address: 3})
    assert first.list_ids() == [old[1], *others, *new, *newest]


def test_path_that_is_not_utf8_is_an_address(tmp_path, answer):
    deployment = Deployment(tmp_path / os.fsdecode(b"\xff"), answer)
    (backup,) = deployment.back_up()
    assert deployment.read_status()["backups"] == 1
    deployment.insert(1)
    assert deployment.run("restore", "apply", backup, "--yes")["data"]["backup"] == backup
    assert deployment.count() == 0


def test_same_path_on_another_machine_is_another_database(first, monkeypatch):
    first.back_up(2)
    monkeypatch.setattr(environment, "machine_name", lambda: "web2")
    first.back_up(2)
    assert first.run("backup", "prune", "--keep-last", "1", "--yes")["data"]["others"] == {first.address: 2}
    monkeypatch.setattr(environment, "machine_name", lambda: "")  # the name of a container is random
    first.back_up(2)
    result = first.run("backup", "prune", "--keep-last", "1", "--yes")["data"]
    assert (len(result["deleted"]), sum(result["others"].values())) == (1, 3)


@pytest.mark.parametrize(
    ("name", "machine"), [("web1.example.org", "web1"), ("0f3a9c27d1be", ""), ("web1", "web1")]
)
def test_name_of_a_container_is_no_machine(monkeypatch, name, machine):
    names = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result([names.sysname, name, *names[2:]]))
    assert environment.machine_name() == machine


@pytest.mark.parametrize(
    ("address", "is_here"),
    [
        ("app.db", True),
        ("mysql://app@localhost/shop", True),
        ("postgresql://app@127.0.0.1:5433/shop", True),
        ("postgresql:///shop", True),
        ("postgresql://app@db.example.org/shop", False),
        ("postgresql://app@localhost/shop?via=docker:shop-db", True),
        ("postgresql://app@localhost/shop?via=ssh:web1", False),
        ("postgresql://app@localhost/shop?via=ssh:web1+docker:shop-db", False),
        ("s3://bucket/vectors", False),
    ],
)
def test_address_is_of_this_machine(address, is_here):
    assert parse_url(address).is_on_this_machine is is_here


def test_backups_without_addresses_are_those_of_the_app(first):
    names = first.back_up(2)
    for name in names:
        (path,) = first.folder.parent.joinpath("backups").rglob(f"{name}/manifest.json")
        manifest = backup_manifest.parse(path.read_bytes())
        assert manifest.addresses == {"main": first.address}
        path.write_text(backup_manifest.serialize(backup_manifest.structs.replace(manifest, addresses={})))
    first.path.rename(first.folder / "new.db")
    first.configure('main = "new.db"')
    assert first.read_status()["newest"] == names[1]
    assert first.run("backup", "prune", "--keep-last", "1", "--yes")["data"]["deleted"] == names[:1]


def test_backup_of_several_databases_counts_for_those_that_were_not_moved(first):
    first.configure('main = "app.db"\njobs = "jobs.db"')
    old = first.back_up(2)
    (first.folder / "jobs.db").rename(first.folder / "queue.db")
    first.configure('main = "app.db"\njobs = "queue.db"')
    databases = {item["database"]: item for item in first.run("backup", "status")["data"]["databases"]}
    assert (databases["main"]["newest"], databases["jobs"]["newest"]) == (old[1], None)
    new = first.back_up(2)
    prune = ("backup", "prune", "--keep-last", "1", "--yes")
    assert first.run(*prune)["data"]["deleted"] == new[:1]
    # A database that is no longer configured belongs to the others of its backup.
    first.configure('main = "app.db"')
    assert first.run(*prune)["data"]["deleted"] == old[::-1]
    assert first.list_ids() == new[1:]


def test_safety_backup_of_a_missing_database_has_its_address(first, second):
    second.back_up()
    second.path.unlink()
    second.run("restore", "apply", "latest", "--yes")
    with open_repository(first.path) as (_app, repository):
        (safety,) = (item for item in repository.manifests()[0] if item.kind == "safety")
        assert repository.find_others(safety) == {"main": second.address}


@pytest.mark.slow
def test_differences_have_bases_of_the_own_database(tmp_path, answer, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    first, second = (
        Deployment(tmp_path / name, answer, "incremental = true") for name in ("first", "second")
    )
    first.insert(3000)
    second.insert(3000)
    bases = first.back_up() + second.back_up()
    first.insert(1)
    second.insert(1)
    for deployment, base in zip((first, second), bases, strict=True):
        backup = deployment.run("backup", "create")["data"]
        (member,) = backup["members"]
        assert member["delta"], (backup["remarks"], backup["bytes"])
        assert member["delta"]["backup"] == base
    result = first.run("backup", "prune", "--keep-last", "1", "--yes")["data"]
    reasons = {item["id"]: item["reasons"] for item in result["retained"]}
    assert (result["deleted"], reasons[bases[0]]) == ([], ["the base of 1 retained backup"])
    first.run("backup", "verify", "--deep")


def test_rules_apply_in_each_copy_of_the_repository(first, second, tmp_path):
    names = [deployment.back_up()[0] for deployment in (first, second, first)]
    copies = str(tmp_path / "copies")
    second.run("backup", "copy", "--to", copies)
    pruned = first.run("backup", "prune", "--repository", copies, "--keep-last", "1", "--yes")["data"]
    assert (pruned["deleted"], pruned["others"]) == (names[:1], {second.address: 1})


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["postgresql", "postgresql schema", "mysql"])
def test_databases_of_a_server(tmp_path, answer, engine):
    with (
        larder_app.open_pantry(engine, tmp_path / "first") as first,
        larder_app.open_pantry(engine, tmp_path / "second") as second,
    ):
        configs = []
        for pantry in (first, second):
            config = pantry.folder / "dbctl.toml"
            config.write_text(config.read_text().replace('"backups"', '"../backups"'))
            configs.append(("--config", str(config)))
        names = [answer(*configs[index], "backup", "create")["data"]["id"] for index in (0, 1, 0, 1)]
        prune = ("backup", "prune", "--keep-last", "1", "--yes")
        pruned = answer(*configs[0], *prune)["data"]
        assert pruned["deleted"] == names[:1]
        ((address, count),) = pruned["others"].items()
        assert (second.own.path in address, count) == (True, 2)
        # The newest of the present address remains, whatever --moved states.
        assert answer(*configs[0], *prune, "--moved", address)["data"]["deleted"] == names[1:2]
        (database,) = answer(*configs[0], "backup", "status")["data"]["databases"]
        assert (database["newest"], database["others"]) == (names[2], {address: 1})
