"""Defaults of all apps (``[defaults]``): how they are merged, where their errors are, and what ``config show`` prints."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from dbctl.config import loader
from dbctl.config.sections import Selection

APP = '[apps.{name}]\nprofile = "plain"\ndatabases = "{name}.db"\n'
DEFAULTS = """[defaults.backup]
repository = "all"
keep = {{ last = 3, daily = 5 }}
max_age = "26h"
schema_only = ["a", "b"]
[defaults.hooks.backup]
before = ["true"]
"""
OWN = """[apps.blog.backup]
keep = { daily = 9, weekly = 2 }
schema_only = ["c"]
"""
SCHEDULE, NOTIFY = (pytest.mark.needs_extension(name) for name in ("schedule", "notify"))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DBCTL_CONFIG", raising=False)
    (tmp_path / "dbctl.d").mkdir()
    return tmp_path


def write(folder, main, part=""):
    (folder / "dbctl.toml").write_text(main)
    (folder / "dbctl.d/part.toml").write_text(part)


def find_problems(answer):
    findings = answer("config", "validate", status=2)["data"]["findings"]
    return [(finding["file"], finding["line"], finding["message"].partition(": ")[0]) for finding in findings]


@pytest.mark.parametrize("is_split", [False, True])
def test_tables_are_merged_and_other_values_replaced(folder, is_split):
    defaults, apps = DEFAULTS.format(), APP.format(name="blog") + OWN + APP.format(name="shop")
    write(folder, apps if is_split else defaults + apps, defaults if is_split else "")
    blog, shop = (loader.find_app(Selection(app=name)) for name in ("blog", "shop"))
    keep = blog.backup.keep
    assert (keep.last, keep.daily, keep.weekly, blog.backup.max_age) == (3, 9, 2, "26h")
    assert (blog.backup.schema_only, shop.backup.schema_only) == (["c"], ["a", "b"])
    assert (shop.backup.keep.daily, shop.backup.repository) == (5, "all")
    assert [list(app.hooks["backup"].before) for app in (blog, shop)] == [["true"], ["true"]]


def test_origin_of_each_value_is_shown(folder, answer):
    write(folder, APP.format(name="blog") + OWN, DEFAULTS.format())
    items = {item["key"]: item for item in answer("config", "show", "--app", "blog")["data"]["items"]}
    own, default = items["apps.blog.backup.keep.daily"], items["apps.blog.backup.keep.last"]
    assert (own["value"], own["file"], own["line"], own["inherited"]) == (9, "dbctl.toml", 5, None)
    assert (default["value"], default["file"], default["line"]) == (3, "dbctl.d/part.toml", 3)
    assert default["inherited"] == "defaults.backup.keep.last"
    assert items["apps.blog.backup.schema_only"]["value"] == ["c"]
    shown = {item["key"] for item in answer("config", "show")["data"]["items"]}
    assert {"defaults.backup.max_age", "apps.blog.backup.max_age"} <= shown


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ('[defaults.backup]\nrepositry = "all"', "defaults.backup.repositry"),
        ("[defaults.backup]\nmax_age = 26", "defaults.backup.max_age"),
        ('[defaults.backup]\nmax_age = "soon"', "defaults.backup.max_age"),
        ('[defaults.backup.keep]\nwithin = "soon"', "defaults.backup.keep.within"),
        ('[defaults.backup.keep]\nwithin = "0d"', "defaults.backup.keep.within"),
        ('[journal]\nkeep = "0d"', "journal.keep"),
        ("[defaults.bakcup]\nx = 1", "defaults.bakcup"),
        ('[defaults]\nprofile = "plain"', "defaults.profile"),
        ('[defaults.databases]\nmain = "x.db"', "defaults.databases"),
        pytest.param("[defaults.schedule]\nbackup = 5", "defaults.schedule.backup", marks=SCHEDULE),
        pytest.param('[defaults.notify]\nrepeat = "soon"', "defaults.notify.repeat", marks=NOTIFY),
        pytest.param(
            '[defaults.notify]\nping = "https://hc.example/{command}"', "defaults.notify.ping", marks=NOTIFY
        ),
    ],
)
def test_invalid_default_is_reported_once_where_it_is(folder, answer, lines, key):
    own = '[apps.NAME.backup]\nrepository = "own"\n'
    apps = [APP.format(name=name) + own.replace("NAME", name) for name in ("blog", "shop")]
    write(folder, apps[0], f"# defaults\n{lines}\n{apps[1]}")
    line = 2 if key in ("defaults.bakcup", "defaults.databases") else 3  # of its header
    assert find_problems(answer) == [("dbctl.d/part.toml", line, f"line {line}, {key}")]
    write(folder, f"# defaults\n{lines}\n{''.join(apps)}")
    assert find_problems(answer) == [("dbctl.toml", line, f"line {line}, {key}")]


@pytest.mark.parametrize("value", ["26", '"26 hours"'])
def test_default_that_every_app_replaces_is_checked(folder, answer, value):
    write(
        folder,
        f'[defaults.backup]\nmax_age = {value}\n{APP.format(name="blog")}[apps.blog.backup]\nrepository = "b"\nmax_age = "26h"\n',
    )
    assert find_problems(answer) == [("dbctl.toml", 2, "line 2, defaults.backup.max_age")]


def test_limits_of_an_unknown_database_are_reported_in_the_defaults(folder, answer):
    text = '[defaults.backup]\nrepository = "b"\n[defaults.backup.databases.other]\nmax_age = "7d"\n'
    write(folder, text + APP.format(name="blog") + APP.format(name="shop"))
    assert find_problems(answer) == [("dbctl.toml", 3, "line 3, defaults.backup.databases.other")]


def test_missing_key_of_an_app_is_reported_in_the_app(folder, answer):
    app = APP.format(name="blog")
    write(folder, f'{app}[apps.blog.backup]\nmax_age = "1d"\n', '[defaults.backup]\nverify_within = "8d"\n')
    assert find_problems(answer) == [("dbctl.toml", 4, "line 4, apps.blog.backup.repository")]
    write(folder, app, '[defaults.backup]\nverify_within = "8d"\n')
    assert find_problems(answer) == [("dbctl.d/part.toml", 1, "line 1, defaults.backup.repository")]


def test_defaults_are_in_one_file(folder, answer):
    write(
        folder,
        f'{APP.format(name="blog")}[defaults.backup]\nrepository = "a"\n',
        '[defaults.backup]\nrepository = "b"\n',
    )
    assert find_problems(answer) == [("dbctl.d/part.toml", 1, "line 1, defaults")]


def test_variable_of_a_default_is_that_of_the_app(folder, answer, monkeypatch):
    monkeypatch.setenv("BACKUPS", "elsewhere")
    write(folder, f'[defaults.backup]\nrepository = "${{BACKUPS}}"\n{APP.format(name="blog")}')
    with closing(sqlite3.connect(folder / "blog.db")) as connection:
        connection.execute("create table posts (id integer primary key)")
    assert answer("backup", "create")["data"]["path"] == str(
        folder / "elsewhere/blog" / answer("backup", "list")["data"]["items"][0]["id"]
    )
    monkeypatch.delenv("BACKUPS")
    assert find_problems(answer) == [("dbctl.toml", 2, "line 2, defaults.backup.repository")]


@pytest.mark.needs_extension("notify")
def test_secret_address_of_a_default_is_not_shown(folder, answer):
    address = "https://hc.example/secret-path/{app}/{command}"
    write(folder, f'[defaults.notify]\nping = "{address}"\n{APP.format(name="blog")}')
    assert "secret-path" not in str(answer("config", "show"))
