"""The audit log on the command line: what is recorded, verification, and logs that cannot be written."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
from contextlib import closing

import pytest

from dbctl.cli.main import main
from dbctl.errors.operations import AuditUnavailableError
from dbctl.services.audit import recorder
from tests.databases import read_event_store

CONFIGURATION = (
    '[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\n[apps.blog.backup]\nrepository = "backups"\n'
)
SET = ("data", "set", "posts", "1")
TRIGGERS = "".join(
    f"create trigger changes_{name} before {name} on changes begin select raise(abort, 'no'); end;"
    for name in ("update", "delete")
)
REPLACE = "update changes set record = cast(replace(cast(record as text), '{}', '{}') as blob)"


@pytest.fixture
def blog(tmp_path, monkeypatch):
    """An app with one table, and a directory for state."""
    with closing(sqlite3.connect(tmp_path / "blog.db")) as connection:
        connection.executescript(
            "create table posts (id integer primary key, title text);"
            "create table tags (id integer primary key, post integer references posts on delete cascade, name text);"
            "create table notes (post integer references posts on delete set null, text text);"
            "insert into posts values (1, 'a'), (2, 'b'); insert into tags values (5, 2, 'x'), (6, 2, 'y');"
        )
    (tmp_path / "dbctl.toml").write_text(CONFIGURATION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    return tmp_path


def edit_log(blog, *statements):
    """Change the records as a user who may write the store can."""
    with closing(sqlite3.connect(blog / "state" / "events.sqlite")) as connection, connection:
        connection.executescript("drop trigger changes_update; drop trigger changes_delete;")
        for statement in statements:
            connection.execute(statement)
        connection.executescript(TRIGGERS)


def forbid_records(blog):
    """Let each record of a change fail, but no record of a run."""
    with closing(sqlite3.connect(blog / "state" / "events.sqlite")) as connection, connection:
        connection.execute(
            "create trigger forbidden before insert on changes begin select raise(abort, 'forbidden'); end"
        )


def configure(blog, text):
    (blog / "dbctl.toml").write_text(f"{CONFIGURATION}[audit]\n{text}\n")


def copy_store(source, destination):
    with closing(sqlite3.connect(source)) as connection, closing(sqlite3.connect(destination)) as copy:
        connection.backup(copy)


def read_rows(blog):
    with closing(sqlite3.connect(blog / "blog.db")) as connection:
        return [connection.execute(f"select * from {name}").fetchall() for name in ("posts", "tags", "notes")]


def read_operations(answer):
    return answer("audit", "list")["data"]["items"]


def read_codes(answer, *words, status=4):
    return [item["code"] for item in answer("audit", "verify", *words, status=status)["data"]["findings"]]


def test_operation_names_who_did_what(answer, blog, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "ada")
    answer(*SET, "title=z")
    run = answer("runs", "list", "--limit", "1")["data"]["items"][0]["id"]
    (operation,) = read_operations(answer)
    shown = answer("audit", "show", str(operation["operation"]))["data"]
    assert (shown["command"], shown["app"], shown["result"]) == ("data set", "blog", "committed")
    assert (shown["sudo_user"], shown["host"], shown["run"]) == ("ada", os.uname().nodename, run)
    assert shown["config"] == str(blog / "dbctl.toml")
    assert "title=***" in shown["arguments"]
    (change,) = shown["changes"]
    assert change["images"] == [{"key": {"id": 1}, "before": {"title": "a"}, "after": {"title": "z"}}]


def test_reading_and_dry_runs_and_unchanged_rows_are_not_recorded(answer, blog):
    answer("data", "rows", "posts")
    answer(*SET, "title=z", "--dry-run")
    answer(*SET, "title=a")
    answer("data", "set", "posts", "9", "title=z", status=5)
    assert read_operations(answer) == []
    assert answer("audit", "verify")["data"]["checked"] == 0


def test_plan_of_a_restored_table_is_not_recorded(answer, blog):
    answer("backup", "create")
    words = ("restore", "apply", "latest", "--table", "tags", "--into", "tags_then")
    answer(*words, "--dry-run")
    assert read_operations(answer) == []
    answer(*words)
    assert [operation["rows"] for operation in read_operations(answer)] == [{"main.tags_then": 2}]


def test_undo_restores_rows_that_foreign_keys_deleted(answer, blog):
    before = read_rows(blog)
    answer("data", "delete", "posts", "2", "--yes")
    assert read_rows(blog) != before
    number = str(read_operations(answer)[0]["operation"])
    plan = answer("undo", number, "--dry-run")["data"]["plan"]
    assert (plan["rows"], plan["destructive"]) == ({"posts": 1, "tags": 2}, True)
    answer("undo", number, status=6)  # without a confirmation
    answer("undo", number, "--yes")
    assert read_rows(blog) == before


def test_new_row_to_which_others_refer_now_is_not_deleted(answer, blog):
    answer("data", "add", "posts", "title=new")
    number = str(read_operations(answer)[0]["operation"])
    with closing(sqlite3.connect(blog / "blog.db")) as connection, connection:
        connection.execute("insert into tags values (9, 3, 'later')")
    assert answer("undo", number, "--yes", status=6)["error"]["code"] == "undo-conflict"


def test_rows_of_a_table_without_a_key_are_only_counted(answer, blog):
    with closing(sqlite3.connect(blog / "blog.db")) as connection, connection:
        connection.execute("insert into notes values (2, 'a note')")
    answer("data", "delete", "posts", "2", "--yes")
    number = str(read_operations(answer)[0]["operation"])
    error = answer("undo", number, "--yes", status=6)["error"]
    assert error["code"] == "undo-impossible"
    assert "notes" in error["message"]


def test_filters_and_export(answer, blog, capsys):
    answer(*SET, "title=y")
    answer("data", "add", "posts", "title=z")
    assert len(answer("audit", "list", "--command", "data")["data"]["items"]) == 2
    assert len(answer("audit", "list", "--command", "data add", "--since", "1h")["data"]["items"]) == 1
    assert answer("audit", "list", "--command", "dat")["data"]["items"] == []
    assert answer("audit", "list", "--app", "other")["data"]["items"] == []
    for group in ("audit", "runs"):
        capsys.readouterr()
        assert main([group, "list", "--command", "none"]) == 0
        assert capsys.readouterr().err.strip().endswith("matches")  # others are recorded
    page = answer("audit", "list", "--limit", "1")["data"]
    assert (len(page["items"]), page["total"], page["has_more"]) == (1, 2, True)
    capsys.readouterr()
    assert main(["audit", "export"]) == 0
    exported = capsys.readouterr().out
    with closing(sqlite3.connect(blog / "state" / "events.sqlite")) as connection:
        rows = connection.execute("select cast(record as text) from changes order by seq").fetchall()
    assert exported == "".join(f"{row[0]}\n" for row in rows)
    assert [json.loads(line)["sequence"] for line in exported.splitlines()] == [1, 2, 3, 4, 5]
    assert main(["audit", "export", "--since", "3"]) == 0
    assert capsys.readouterr().out == "".join(exported.splitlines(keepends=True)[3:])
    answer("audit", "show", "99", status=5)


def test_line_below_a_page_names_the_option_that_continues_it(answer, blog, capsys):
    for number in range(5):
        assert main([*SET, f"title={number}", "-q"]) == 0
    operations = [item["operation"] for item in answer("audit", "list")["data"]["items"]]
    assert main(["audit", "list", "--limit", "2"]) == 0
    count, _, words = capsys.readouterr().err.strip().removesuffix(" shows more").partition("; ")
    assert count == "2 of 5"
    page = answer("audit", "list", "--limit", "2", *words.split())["data"]
    assert ([item["operation"] for item in page["items"]], page["has_more"]) == (operations[2:4], True)
    page = answer("audit", "list", "--limit", "2", "--after", str(operations[3]))["data"]
    assert ([item["operation"] for item in page["items"]], page["has_more"]) == (operations[4:], False)


def test_edited_and_truncated_logs_are_detected(answer, blog):
    answer(*SET, "title=y")
    anchor = answer("audit", "verify")["data"]["anchor"]
    answer(*SET, "title=z")
    path, copy = blog / "state" / "events.sqlite", blog / "copy.sqlite"
    copy_store(path, copy)
    edit_log(blog, REPLACE.format('"title":"y"', '"title":"x"') + " where seq = 2")
    assert read_codes(answer) == ["audit-edited"]
    number = str(read_operations(answer)[0]["operation"])
    assert answer("undo", number, "--yes", status=4)["error"]["code"] == "audit-invalid"
    copy_store(copy, path)
    edit_log(blog, "delete from changes where seq > 3")
    (blog / "state" / "audit.anchor").unlink()
    assert read_codes(answer) == ["audit-truncated"]  # the journal has the end
    copy_store(copy, path)
    assert read_codes(answer, "--anchor", anchor, status=0) == []
    wrong = anchor[:-1] + ("0" if anchor[-1] != "0" else "1")
    assert read_codes(answer, "--anchor", wrong) == ["audit-replaced"]
    answer("audit", "verify", "--anchor", "nonsense", status=2)


def move_store(source, destination):
    destination.mkdir(exist_ok=True)
    for path in source.glob("events.sqlite*"):
        path.rename(destination / path.name)


def test_log_that_was_moved_away_is_missing_and_the_next_one_continues_it(answer, blog, capsys):
    answer(*SET, "title=y")
    number = str(read_operations(answer)[0]["operation"])
    archive, export = blog / "archive", blog / "export.jsonl"
    anchor = answer("audit", "verify")["data"]["anchor"]
    capsys.readouterr()
    assert main(["audit", "export"]) == 0
    export.write_text(capsys.readouterr().out)
    move_store(blog / "state", archive)
    assert read_codes(answer) == ["audit-missing"]
    answer(*SET, "title=z")
    assert read_codes(answer) == ["audit-replaced"]
    assert read_codes(answer, "--anchor", anchor, status=0) == ["audit-replaced"]
    assert read_codes(answer, str(export), status=0) == []
    answer("undo", number, "--yes", status=5)
    move_store(blog / "state", blog / "new")
    move_store(archive, blog / "state")
    assert read_codes(answer) == ["audit-replaced"]  # the file next to it has the anchor of the other one
    (blog / "state" / "audit.anchor").write_text(anchor)
    assert read_codes(answer, status=0) == []
    answer(*SET, "title=y")
    answer("undo", number, "--yes")
    assert read_rows(blog)[0][0] == (1, "a")


def test_export_of_the_log_is_a_copy_and_no_tampering(answer, blog, capsys):
    answer(*SET, "title=y")
    answer(*SET, "title=z")
    export, path, copy = blog / "export.jsonl", blog / "state" / "events.sqlite", blog / "copy.sqlite"
    capsys.readouterr()
    assert main(["audit", "export"]) == 0
    export.write_text(capsys.readouterr().out)
    error = answer("audit", "verify", str(blog / "none.jsonl"), status=10)["error"]
    assert (error["code"], "DBCTL_STATE" in error["hint"]) == ("audit-unavailable", False)
    count = answer("audit", "verify")["data"]["checked"]
    result = answer("audit", "verify", str(export))["data"]
    assert result["checked"] == count
    assert [finding["code"] for finding in result["findings"]] == ["audit-copy"]
    assert f"records 1 to {count}" in result["findings"][0]["message"]

    lines = export.read_text().splitlines(keepends=True)
    export.write_text("".join(lines[2:]))  # a part, such as the newest records
    assert read_codes(answer, str(export), status=0) == ["audit-copy"]
    export.write_text("".join(lines).replace('"title":"z"', '"title":"x"', 1))
    assert read_codes(answer, str(export)) == ["audit-edited", "audit-copy"]

    export.write_text("".join(lines))
    copy_store(path, copy)
    edit_log(blog, "delete from changes where seq > 3")
    assert "audit-truncated" in read_codes(answer, str(export))
    copy_store(copy, path)
    edit_log(blog, "delete from changes where seq <= 3")
    assert read_codes(answer, str(export), status=0) == ["audit-copy"]
    assert read_codes(answer) == ["audit-missing", "audit-replaced"]


def test_damaged_store_leaves_an_export_verifiable(answer, blog, capsys):
    answer(*SET, "title=y")
    capsys.readouterr()
    assert main(["audit", "export"]) == 0
    export = blog / "export.jsonl"
    export.write_text(capsys.readouterr().out)
    for path in (blog / "state").glob("events.sqlite*"):
        path.write_bytes(b"no database" * 1000)
    assert read_codes(answer) == ["audit-unreadable"]
    assert read_codes(answer, str(export)) == ["audit-unreadable"]
    export.write_text(export.read_text().replace('"user":', '"User":'))
    assert set(read_codes(answer, str(export))) == {"audit-edited", "audit-unreadable"}


def test_directory_that_cannot_be_written_is_a_warning_for_the_run_and_for_the_change(answer, blog, capsys):
    (blog / "state").touch()  # no directory, so that neither file can be created
    answer(*SET, "title=z", "--quiet")
    assert capsys.readouterr().err == ""
    assert main([*SET, "title=y"]) == 0
    errors = capsys.readouterr().err
    assert errors.count("this run is not recorded") == 1
    assert errors.count("this change is not in the audit log") == 1
    assert read_rows(blog)[0][0] == (1, "y")


def test_change_that_is_not_made_is_not_missing_in_the_log(answer, blog, capsys, monkeypatch):
    """A full disk fails the record and the commit."""
    answer("integrity", "check")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_disk(*_):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        raise AuditUnavailableError(path="events.sqlite", reason="database or disk is full")

    monkeypatch.setattr(recorder, "append_changes", fill_disk)
    try:
        assert main([*SET, "title=z"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    errors = capsys.readouterr().err
    assert "Nothing was changed" in errors
    assert "not in the audit log" not in errors
    assert read_rows(blog)[0][0] == (1, "a")
    assert read_codes(answer, status=None) == []


def test_log_that_cannot_be_written_is_a_warning(answer, blog, capsys):
    answer("integrity", "check")
    forbid_records(blog)
    assert main([*SET, "title=z"]) == 0
    assert [line for line in capsys.readouterr().err.splitlines() if "audit log" in line]
    run = answer("runs", "list", "--limit", "1")["data"]["items"][0]
    assert len(run["warnings"]) == 1
    assert main([*SET, "title=z", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert read_rows(blog)[0][0] == (1, "z")
    assert read_codes(answer, status=None) == ["audit-gap"]
    with closing(sqlite3.connect(blog / "state" / "events.sqlite")) as connection:
        connection.execute("drop trigger forbidden")
    for _ in range(2):
        answer(*SET, "title=y", "--quiet")
        assert read_codes(answer, status=None) == ["audit-gap"]


def test_log_that_cannot_be_read_is_an_error(answer, blog):
    (blog / "state" / "events.sqlite").mkdir(parents=True)
    for words in (["verify"], ["list"], ["show", "1"], ["export"]):
        assert answer("audit", *words, status=10)["error"]["code"] == "audit-unavailable"


@pytest.mark.parametrize("state", ["unwritable", "off", "missing key"])
def test_change_is_refused_if_the_log_is_required(answer, blog, monkeypatch, state):
    configure(blog, "required = true")
    if state == "off":
        monkeypatch.setenv("DBCTL_STATE", "off")
    elif state == "unwritable":
        (blog / "state" / "events.sqlite").mkdir(parents=True)
    else:
        (blog / "state").mkdir()
        (blog / "state" / "audit.key").write_text("short")
        with closing(sqlite3.connect(blog / "blog.db")) as connection, connection:
            connection.execute("alter table posts add column password text default 'hunter2'")
    before = read_rows(blog)
    words = ("password=null",) if state == "missing key" else ("title=z",)
    command = [*SET, "--null", "password"] if state == "missing key" else [*SET, *words]
    assert answer(*command, status=10)["error"]["code"] == "audit-unavailable"
    assert read_rows(blog) == before
    answer("maintain", "vacuum", status=None)
    answer("data", "rows", "posts")


def test_values_can_be_left_out(answer, blog):
    configure(blog, "values = false")
    answer(*SET, "title=marked")
    (operation,) = read_operations(answer)
    assert operation["rows"] == {"main.posts": 1}
    assert "marked" not in read_event_store(blog / "state")
    assert (
        answer("undo", str(operation["operation"]), "--yes", status=6)["error"]["code"] == "undo-impossible"
    )


def test_other_writes_are_recorded_without_rows(answer, blog):
    answer("backup", "create")
    answer("restore", "apply", "latest", "--yes")
    answer("maintain", "vacuum")
    (blog / "migrations").mkdir()
    (blog / "migrations" / "0001_more.sql").write_text("create table more (id integer primary key);")
    answer("migrate", "up", "--migrations", "migrations", "--url", "main=fresh.db", "--yes")
    operations = read_operations(answer)
    assert [item["command"] for item in operations] == ["migrate up", "maintain vacuum", "restore apply"]
    assert {item["result"] for item in operations} == {"committed"}
    codes = {
        answer("undo", str(item["operation"]), "--moved", "--yes", status=6)["error"]["code"]
        for item in operations
    }
    assert codes == {"undo-impossible"}


def test_two_undos_of_one_operation(answer, blog):
    answer(*SET, "title=z")
    number = str(read_operations(answer)[0]["operation"])
    answer("undo", number, "--yes")
    undo = read_operations(answer)[0]
    assert undo["undoes"] == int(number)
    assert answer("audit", "show", number)["data"]["undone_by"] == undo["operation"]
    assert answer("undo", number, "--yes", status=6)["error"]["code"] == "undo-conflict"


def test_imported_rows_with_generated_keys_are_recorded(answer, blog):
    before = read_rows(blog)
    (blog / "rows.csv").write_text("title\nfirst\nsecond\n")
    answer("data", "import", "posts", "rows.csv")
    shown = answer("audit", "show", str(read_operations(answer)[0]["operation"]))["data"]
    assert [image["key"] for image in shown["changes"][0]["images"]] == [{"id": 3}, {"id": 4}]
    answer("undo", str(shown["operation"]), "--yes")
    assert read_rows(blog) == before


@pytest.mark.needs_extension("fleet")
def test_log_that_was_truncated_after_a_run_on_a_fleet_is_detected(answer, blog):
    section = '[apps.shop]\nprofile = "plain"\ndatabases = "shops/*.db"\n'
    (blog / "dbctl.toml").write_text(f"{CONFIGURATION}{section}")
    (blog / "shops").mkdir()
    for index in range(6):
        with closing(sqlite3.connect(blog / f"shops/s{index}.db")) as connection:
            connection.execute("create table posts (id integer primary key)")
    answer("maintain", "vacuum", "--app", "shop", "--jobs", "3")
    run = answer("runs", "list", "--limit", "1", "--app", "shop")["data"]["items"][0]
    operations = read_operations(answer)
    assert len(operations) == 6
    shown = answer("audit", "show", str(operations[0]["operation"]))["data"]
    assert shown["run"] == run["id"]
    assert answer("audit", "verify")["data"]["anchor"] == run["audit"]
    edit_log(blog, "delete from changes where seq = (select max(seq) from changes)")
    assert "audit-truncated" in read_codes(answer)
