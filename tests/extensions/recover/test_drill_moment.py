"""Drills of moments: each is recovered, restored and recorded next to its copy, and no backup of it remains."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from tests.extensions.recover.primary import find_leftovers, write_time
from tests.services.backup.test_increments_commands import create_identity


def create_log(shop, answer, sales=4):
    """Store a copy, and the log of some sales after it; return the id of the copy."""
    answer("backup", "log")
    copy = answer("backup", "create", "--physical")["data"]["id"]
    shop.sell(sales)
    answer("backup", "log")
    return copy


def read_moments(answer, copy):
    return answer("backup", "show", copy)["data"]["moments"]


def list_databases(shop):
    return {name for (name,) in shop.execute("select datname from pg_database")}


@pytest.mark.slow
@pytest.mark.usefixtures("each_version")
def test_drill_of_a_moment_is_recorded_next_to_the_copy_and_leaves_nothing(shop, answer, tmp_path):
    copy = create_log(shop, answer)
    folders = sorted(path.name for path in Path("backups/shop").iterdir())
    databases = list_databases(shop)
    at = shop.sales[2].inserted
    plan = answer("backup", "drill", "--at", write_time(at), "--dry-run")["data"]["plan"]["steps"]
    assert copy in plan[0]
    assert read_moments(answer, copy) == {}
    data = answer("backup", "drill", "--at", write_time(at))["data"]
    (drill,) = data["databases"]
    assert (drill["passed"], drill["backup"], drill["rows"]) == (True, copy, len(shop.list_sales(at)))
    assert datetime.fromisoformat(drill["as_of"]) == at
    record = read_moments(answer, copy)["main"]
    assert (record["as_of"], record["rows"]) == (drill["as_of"], drill["rows"])
    assert answer("backup", "status")["data"]["databases"][0]["drilled_at"] is None
    assert sorted(path.name for path in Path("backups/shop").iterdir()) == folders
    assert list_databases(shop) == databases
    assert find_leftovers() == []


@pytest.mark.slow
def test_random_moment_is_one_of_the_stored_log(shop, answer):
    copy = create_log(shop, answer)
    recoverable = answer("backup", "status")["data"]["databases"][0]["recoverable"]
    (drill,) = answer("backup", "drill", "--at", "random")["data"]["databases"]
    # of times, as texts have as many digits as they need
    since, as_of, until = map(
        datetime.fromisoformat, (recoverable["since"], drill["as_of"], recoverable["until"])
    )
    assert since <= as_of <= until
    assert drill["rows"] == len(shop.list_sales(as_of))
    assert read_moments(answer, copy)["main"]["as_of"] == drill["as_of"]
    answer("backup", "copy", "--to", "second")
    assert answer("backup", "show", copy, "--repository", "second")["data"]["moments"] == read_moments(
        answer, copy
    )


@pytest.mark.slow
def test_drill_of_a_moment_refuses_what_it_cannot_do(shop, answer):
    for words in (["20260101_000000"], ["--all-apps"]):
        assert answer("backup", "drill", "--at", "random", *words, status=2)["error"]["code"] == "usage"
    Path("backups").mkdir()
    assert answer("backup", "drill", "--at", "random", status=2)["error"]["code"] == "usage"
    copy = create_log(shop, answer, sales=1)
    early = datetime.fromisoformat("2020-01-01T00:00:00+00:00")
    assert answer("backup", "drill", "--at", write_time(early), status=5)["error"]["code"] == "recovery-time"
    assert read_moments(answer, copy) == {}


@pytest.mark.slow
def test_damaged_log_fails_the_drill_without_a_record(shop, answer):
    copy = create_log(shop, answer)
    part = answer("backup", "list", "--kind", "log")["data"]["items"][0]
    (member,) = part["members"]
    file = Path(part["path"], member["file"])
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    answer("backup", "drill", "--at", write_time(shop.sales[-1].inserted), status=4)
    assert read_moments(answer, copy) == {}
    assert find_leftovers() == []


@pytest.mark.slow
def test_problem_that_the_database_had_is_found(shop, answer):
    """A view that cannot be read is in the database, as of the moment."""
    shop.execute("create function fail() returns int language plpgsql as $$begin raise 'no'; end$$")
    shop.execute("create view broken as select fail()")
    copy = create_log(shop, answer)
    data = answer("backup", "drill", "--at", write_time(shop.sales[-1].inserted), status=4)["data"]
    assert [finding["code"] for finding in data["findings"]] == ["view-unreadable"]
    assert data["databases"][0]["passed"]  # recorded as other drills are: it was restored as it was
    assert read_moments(answer, copy)["main"]["as_of"] == data["databases"][0]["as_of"]


@pytest.mark.slow
def test_encrypted_log_is_drilled_with_the_key(shop, answer, tmp_path):
    recipient = create_identity(tmp_path, "key")
    with (tmp_path / "dbctl.toml").open("a") as file:
        file.write(f'backup.encrypt.recipients = ["{recipient}"]\n')
    copy = create_log(shop, answer)
    assert answer("backup", "drill", "--at", "random", status=None)["error"]["code"] == "key-missing"
    answer("backup", "drill", "--at", "random", "--identity", str(tmp_path / "key"))
    assert list(read_moments(answer, copy)) == ["main"]
    assert find_leftovers() == []
