"""Commands without the extension, in a configuration with channels: they have the same results, and send no notices."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from tests.extensions.absence import Remainder
from tests.receivers import receive_http


@pytest.fixture(scope="module")
def remainder(tmp_path_factory):
    return Remainder(tmp_path_factory.mktemp("remainder") / "path", "notify")


@pytest.fixture
def receiver():
    with receive_http() as receiver:
        yield receiver


@pytest.fixture
def blog(tmp_path, receiver):
    with closing(sqlite3.connect(tmp_path / "blog.db")) as connection:
        connection.execute("create table posts (id integer primary key)")
    (tmp_path / "dbctl.toml").write_text(
        f'[notify]\nping = "{receiver.url}/{{app}}-{{command}}"\n[notify.webhook]\nurl = "{receiver.url}/hook"\n'
        '[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\n[apps.blog.backup]\nrepository = "backups"\n'
    )
    return tmp_path


@pytest.mark.slow
def test_jobs_run_and_are_recorded_without_notices(blog, remainder, receiver):
    state = {"DBCTL_STATE": str(blog / "state")}
    assert remainder.run("backup", "create", cwd=blog, environment=state).returncode == 0
    (blog / "blog.db").rename(blog / "moved.db")
    failed = remainder.run("backup", "create", "--quiet", cwd=blog, environment=state)
    assert failed.returncode == 10
    assert failed.stderr.startswith("dbctl: ")
    runs = remainder.run("runs", "list", "-o", "json", cwd=blog, environment=state)
    results = [run["result"] for run in json.loads(runs.stdout)["data"]["items"]]
    assert results == ["unreachable", "ok"]
    assert not receiver.requests


@pytest.mark.slow
def test_doctor_reports_the_section_that_has_no_effect(blog, remainder):
    examined = remainder.run("doctor", "-q", "-o", "json", cwd=blog)
    codes = [finding["code"] for finding in json.loads(examined.stdout)["data"]["findings"]]
    assert codes.count("extension-absent") == 1
    assert "extension-absent" not in Remainder(blog / "whole").run("doctor", "-o", "json", cwd=blog).stdout


def test_section_of_an_app_may_have_any_content_and_its_addresses_are_not_shown(blog, remainder):
    with (blog / "dbctl.toml").open("a") as file:
        file.write('[apps.blog.notify]\nnothing = 3\nplaces = ["https://example.org/marked"]\n')
    shown = remainder.run("config", "show", cwd=blog)
    assert (shown.returncode, "marked" in shown.stdout, "/hook" in shown.stdout) == (0, False, False)
    examined = remainder.run("doctor", "-q", "-o", "json", cwd=blog)
    messages = [finding["message"] for finding in json.loads(examined.stdout)["data"]["findings"]]
    assert sum("the section notify has no effect" in message for message in messages) == 1


def test_configuration_is_valid_and_has_no_jobs_of_the_extension(blog, remainder):
    assert remainder.run("config", "validate", cwd=blog).returncode == 0
    jobs = remainder.run("schedule", "cron", cwd=blog)
    assert "backup create" in jobs.stdout
    assert "notify" not in jobs.stdout


def test_group_of_the_extension_does_not_exist(blog, remainder):
    assert remainder.run("notify", "check", cwd=blog).returncode == 2
    assert "notify " not in remainder.run("help", cwd=blog).stdout
