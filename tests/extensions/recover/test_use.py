"""A backup of a moment is previewed, restored, undone, drilled, verified, copied and pruned like any other."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from tests import servers
from tests.extensions.recover.primary import Primary, write_time

pytestmark = pytest.mark.slow


@pytest.fixture
def primary(tmp_path, monkeypatch):
    """Return a running server, in the folder of an app: its sales were deleted."""
    with servers.archiving_postgresql() as server:
        primary = Primary(server)
        primary.execute("create unlogged table carts (id integer)")
        primary.execute("insert into carts values (1)")
        primary.back_up("first", "-X", "none")
        time.sleep(1)  # a base states the second of its start
        primary.sell(5)
        primary.delete("true")
        primary.archive()
        primary.configure(tmp_path)
        monkeypatch.chdir(tmp_path)
        try:
            yield primary
        finally:
            primary.close()


def count_sales(primary):
    ((count,),) = primary.execute("select count(*) from sales")
    return count


def test_recovered_backup_is_used_like_any_other(primary, answer):
    deleted = primary.sales[-1].deleted
    answer("backup", "create")
    result = answer("backup", "recover", "--at", write_time(deleted))["data"]
    assert "carts" in " ".join(result["remarks"])
    (member,) = result["members"]
    assert datetime.fromisoformat(member["taken_at"]) == deleted
    assert member["facts"]["recovered_base"] == "first"
    name = result["id"]
    preview = answer("restore", "preview", name, status=None)["data"]
    assert "sales" in str(preview)
    answer("backup", "verify", "--deep", name)
    drill = answer("backup", "drill", name)["data"]
    assert name in str(drill)
    answer("restore", "apply", name, "--yes")
    primary.reconnect()
    assert count_sales(primary) == 5
    answer("restore", "undo", "--yes")
    primary.reconnect()
    assert count_sales(primary) == 0
    answer(
        "restore", "apply", "latest", "--kind", "recovered", "--table", "sales", "--merge", "missing", "--yes"
    )
    assert count_sales(primary) == 5
    answer("backup", "copy", "--to", "copies")
    listed = answer("backup", "list", "--kind", "recovered", "--repository", "copies")["data"]["items"]
    assert [backup["id"] for backup in listed] == [name]


def test_retention_counts_recovered_backups_in_a_series_of_their_own(primary, answer):
    at = write_time(primary.sales[-1].deleted)
    created = answer("backup", "create")["data"]["id"]
    first, second = (answer("backup", "recover", "--at", at)["data"]["id"] for _ in range(2))
    assert answer("backup", "show", "latest")["data"]["id"] == created
    answer("backup", "prune", "--keep-last", "1", "--yes")
    assert {backup["id"] for backup in answer("backup", "list")["data"]["items"]} == {created, second}
    assert first != second
    answer("backup", "delete", second, "--yes")
