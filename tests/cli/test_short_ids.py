"""The first characters of a UUID or of a backup id select a row or a backup, if they select only one."""

from __future__ import annotations

import json

import pytest

from dbctl.cli.main import main
from tests import servers
from tests.databases import empty_database, from_url

FIRST, SECOND = "a1b7c0de-0000-4000-8000-000000000001", "a1b7c0df-0000-4000-8000-000000000002"
#: Ids that are no UUIDs, which only a complete id selects.
OTHERS = ("a1b7", "12345678", "cafe0000-word")


@pytest.fixture
def run(capsys):
    def run_command(*words, status=0):
        capsys.readouterr()
        assert main([*words, "-o", "json"]) == status
        return json.loads(capsys.readouterr().out)

    return run_command


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with empty_database(request.param, tmp_path / "app.db") as database:
        yield database.url


def select(run, url, table, key, status=0):
    answer = run("data", "show", table, key, "--url", f"main={url}", status=status)
    return answer["data"]["id"] if answer["data"] else answer["error"]


def create_table(url, table, id_type, ids):
    rows = ", ".join(f"('{id_}', 'x')" for id_ in ids)
    from_url(url).run(
        f"create table {table} (id {id_type} primary key, name varchar(10))",
        f"insert into {table} values {rows}",
    )


@pytest.mark.parametrize("id_type", ["varchar(40)", "uuid"])
def test_beginning_of_a_uuid_selects_its_row(run, url, id_type):
    if id_type == "uuid" and url.startswith("mysql") and not servers.mysql_server().is_mariadb:
        pytest.skip("MySQL has no type uuid")
    is_text = id_type != "uuid" or "://" not in url
    create_table(url, "notes", id_type, [FIRST, SECOND, *(OTHERS if is_text else ())])
    assert select(run, url, "notes", FIRST) == FIRST
    assert select(run, url, "notes", "a1b7c0de") == FIRST
    assert select(run, url, "notes", "a1b7c0df-0000") == SECOND
    ambiguous = select(run, url, "notes", "a1b7c", status=6)
    assert ambiguous["code"] == "id-ambiguous"
    assert FIRST in ambiguous["message"]
    assert SECOND in ambiguous["message"]
    assert select(run, url, "notes", "a1b", status=5)["code"] == "row-not-found"
    assert select(run, url, "notes", "ffff", status=5)["code"] == "row-not-found"
    if is_text:
        assert select(run, url, "notes", "a1b7") == "a1b7"
        assert select(run, url, "notes", "1234", status=5)["code"] == "row-not-found"
        assert select(run, url, "notes", "cafe", status=5)["code"] == "row-not-found"


def test_integer_is_never_completed(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    create_table("app.db", "notes", "integer", [1234, 12345])
    assert select(run, "app.db", "notes", "1234") == 1234
    assert select(run, "app.db", "notes", "12", status=5)["code"] == "row-not-found"


def test_plan_and_result_have_the_complete_id(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    create_table("app.db", "notes", "text", [FIRST, SECOND])
    words = ("data", "delete", "notes", "a1b7c0df", "--url", "main=app.db")
    assert SECOND in run(*words, "--dry-run")["data"]["plan"]["title"]
    assert run("data", "set", "notes", "a1b7c0df", "name=y", "--url", "main=app.db")["data"]["key"] == {
        "id": SECOND
    }
    assert run(*words, "--yes")["data"]["key"] == {"id": SECOND}
    assert from_url("app.db").rows("select id from notes") == [(FIRST,)]


def test_beginning_of_a_backup_id_selects_it(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    create_table("app.db", "notes", "text", [FIRST])
    options = ("--url", "main=app.db", "--repository", "backups")
    first, second = (run("backup", "create", *options)["data"]["id"] for _ in range(2))
    common = next(length for length in range(15) if first[length] != second[length])
    assert run("backup", "show", second[: common + 1], *options)["data"]["id"] == second
    assert run("backup", "show", first[:common], *options, status=6)["error"]["code"] == "id-ambiguous"
    assert run("backup", "show", "1999", *options, status=5)["error"]["code"] == "backup-missing"
    assert run("backup", "delete", "latest", "--yes", *options, status=2)["error"]["code"] == "usage"
    deleted = run("backup", "delete", first[: common + 1], "--yes", *options)["data"]["deleted"]
    assert deleted == [first]
