"""Apps that store all texts as bytes, as MediaWiki on MySQL and MariaDB."""

from __future__ import annotations

import pytest

from tests.databases import empty_database

PROFILE = """
schema = "dbctl.profile/1"
name = "wiki"
title = "Wiki"
[databases.main]
engines = ["sqlite", "mysql"]
[users]
admin = false
table = "people"
id = { column = "id", codec = "given" }
login = ["login"]
fields = { login = "login" }
[[settings]]
scope = "user"
table = "options"
user = "person"
key = "name"
open = true
fields = { value = "value" }
[[search]]
name = "pages"
database = "main"
table = "pages"
id = "id"
words = ["title"]
show = ["id", "title", "touched"]
times = ["touched"]
[[search.sort]]
name = "title"
columns = ["title"]
[[report]]
name = "edits"
title = "Edits"
columns = ["login", "last"]
times = ["last"]
[[report.variant]]
needs = ["people.login"]
sql = "select login, (select max(touched) from pages) from people order by login limit :limit offset :offset"
"""


@pytest.fixture(params=["sqlite", "mysql"])
def wiki(request, tmp_path, monkeypatch):
    (tmp_path / "wiki.toml").write_text(PROFILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    short = "varbinary(20)" if request.param == "mysql" else "blob"
    with empty_database(request.param, tmp_path / "app.db") as database:
        database.run(
            f"create table people (id integer primary key, login {short})",
            f"create table options (person integer, name {short}, value blob, primary key (person, name))",
            f"create table pages (id integer primary key, title {short}, touched {short})",
            "insert into people values (1, 'ida')",
            "insert into options values (1, 'language', 'dé'), (1, 'skin', 'plain')",
            "insert into pages values (1, 'Main_Page', '20260102030405')",
        )
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.a]\nprofile = "{tmp_path}/wiki.toml"\ndatabases = "{database.url}"\n'
        )
        yield database


def test_settings_that_are_stored_as_bytes_are_read_and_changed(wiki, answer):
    before = wiki.content()
    listed = answer("settings", "list", "--user", "ida")["data"]["items"]
    assert {item["key"]: item["value"] for item in listed} == {"language": "dé", "skin": "plain"}
    assert answer("settings", "set", "language", "dé", "--user", "ida")["data"]["effect"] is None
    answer("settings", "set", "language", "fr", "--user", "ida")
    answer("settings", "set", "new", "ü", "--user", "ida")
    assert answer("settings", "export", "--user", "ida")["data"] == {
        "language": "fr",
        "new": "ü",
        "skin": "plain",
    }
    for change in answer("audit", "list")["data"]["items"]:
        answer("undo", str(change["operation"]), "--yes")
    assert wiki.content() == before


def test_found_rows_and_reports_show_bytes_as_text(wiki, answer):
    (page,) = answer("search", "pages", "main")["data"]["items"]
    assert page == {"id": 1, "title": "Main_Page", "touched": "2026-01-02T03:04:05.000Z"}
    (row,) = answer("stats", "run", "edits")["data"]["items"]
    assert row == {"login": "ida", "last": "2026-01-02T03:04:05.000Z"}
