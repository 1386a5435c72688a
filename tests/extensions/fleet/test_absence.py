"""A configured fleet without the extension: commands work on one instance, and refuse all."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from tests.extensions.absence import Remainder


@pytest.fixture(scope="module")
def remainder(tmp_path_factory):
    return Remainder(tmp_path_factory.mktemp("remainder") / "path", "fleet")


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shops")
    for name in ("a", "b"):
        with closing(sqlite3.connect(folder / f"{name}.db")) as connection:
            connection.execute("create table orders (id integer primary key)")
    (folder / "dbctl.toml").write_text('[apps.shop]\nprofile = "plain"\ndatabases = "*.db"\n')
    return folder


@pytest.mark.parametrize(
    "words",
    ["status", "backup create --repository {folder}/backups", "stats tables --app shop", "stats locks"],
)
def test_all_instances_are_refused_with_a_hint(shops, remainder, words):
    refused = remainder.run(*words.format(folder=shops).split(), cwd=shops)
    assert refused.returncode == 2
    assert "the fleet shop is not supported by this installation of dbctl" in refused.stderr
    assert "Its extension is not installed. Select an instance with --app shop/NAME." in refused.stderr


def test_one_instance_is_an_app(shops, remainder):
    listed = remainder.run("status", "--app", "shop/a", "-o", "json", cwd=shops)
    assert listed.returncode == 0
    assert [row["app"] for row in json.loads(listed.stdout)["data"]["items"]] == ["shop/a"]


def test_report_has_the_fleet_as_a_failure(shops, remainder):
    with_app = (shops / "dbctl.toml").read_text() + '[apps.blog]\nprofile = "plain"\ndatabases = "a.db"\n'
    (shops / "both.toml").write_text(with_app)
    shown = remainder.run("report", "--config", "both.toml", "-o", "json", cwd=shops)
    assert shown.returncode == 0
    report = json.loads(shown.stdout)["data"]
    assert {app["app"]: app["health"] for app in report["apps"]} == {"shop": "error", "blog": "ok"}
    assert ("shop", "not-supported") in {(row["target"], row["code"]) for row in report["findings"]}
