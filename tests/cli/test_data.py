"""``dbctl data`` on both variants of Flashpoint Web."""

from __future__ import annotations

import io
import json
import sqlite3
import stat
import sys
from contextlib import closing

import pytest

from dbctl.cli.main import main
from dbctl.services.data import csv_jsonl
from tests.services import flashpoint_app
from tests.services.flashpoint_app import TOKEN, create_app, query_rows
from tests.services.flashpoint_app import run_statements as change


@pytest.fixture
def path(tmp_path, monkeypatch):
    database = create_app(tmp_path / "app", "deployed")
    monkeypatch.chdir(database.parent)
    return database


@pytest.fixture
def dbctl(path, capsys):
    def run(*words):
        capsys.readouterr()
        status = main(list(words))
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


@pytest.fixture
def answer(dbctl):
    def run(*words, status=0):
        exit_code, out, _ = dbctl(*words, "-o", "json")
        response = json.loads(out)
        assert exit_code == status, response
        return response["error"] or response["data"]

    return run


def hash_of(path):
    return query_rows(path, "select password_hash from users where id = 1")[0][0]


# Reading ---------------------------------------------------------------------------------------------------------


def test_rows_are_filtered_sorted_limited_and_counted(answer):
    page = answer("data", "rows", "users", "--sort", "-username", "--limit", "2", "--columns", "id,username")
    assert page == {
        "items": [{"id": 1, "username": "root"}, {"id": 3, "username": "bob"}],
        "total": 3,
        "limit": 2,
        "offset": 0,
        "has_more": True,
    }

    def select_ids(*words):
        return [item["id"] for item in answer("data", "rows", "users", *words)["items"]]

    assert select_ids("--filter", "username=ann") == [2]
    assert select_ids("--filter", "username!=ann", "--filter", "is_active=yes") == [1]
    assert select_ids("--filter", "id>=2", "--filter", "username:NN") == [2]
    assert select_ids("--filter", "last_login_at<2026-01-01") == [2], (
        "times are compared in every stored format"
    )
    assert select_ids("--filter", "last_login_at=2025-02-03") == [2], "a date covers the whole day"
    assert select_ids("--null", "last_login_at") == [3]
    assert select_ids("--not-null", "last_login_at", "--offset", "1") == [2]


def test_numbers_of_times_are_accepted_as_they_are_shown(path, answer):
    default = "default (strftime('%s', 'now'))"
    change(path, f"create table seen (id integer primary key, at real {default}, since text {default})")
    change(path, "insert into seen values (1, 1795252616.1478474, 1795252616), (2, 1795252616.5, 1795252700)")

    def select_ids(condition):
        return [item["id"] for item in answer("data", "rows", "seen", "--filter", condition)["items"]]

    assert select_ids(f"at={answer('data', 'show', 'seen', '1')['at']}") == [1]
    assert select_ids("at=1795252616") == []
    assert select_ids("at>1795252616.2") == [2]
    assert select_ids("since=1795252616") == [1], "ten digits are no date"
    assert select_ids("at=2026-11-21") == [1, 2]
    answer("data", "set", "seen", "2", "at=1795252616.25", "--yes")
    assert query_rows(path, "select at from seen where id = 2") == [(1795252616.25,)]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["rows", "usrs"], "table-missing"),
        (["rows", "users", "--filter", "nope=1"], "column-missing"),
        (["rows", "users", "--filter", "username"], "usage"),
        (["rows", "users", "--filter", "username~x"], "usage"),
        (["rows", "users", "--sort", "nope"], "column-missing"),
        (["rows", "users", "--columns", "nope"], "column-missing"),
        (["rows", "users", "--filter", "password_hash:$2"], "usage"),
        (["rows", "users", "--sort", "password_hash"], "usage"),
        (["rows", "users", "--null", "password_hash"], "usage"),
        (["rows", "users", "--after", "ann"], "value-invalid"),
        (["show", "users", "99"], "row-not-found"),
        (["show", "users", "ann"], "row-not-found"),
        (["show", "users", "1", "2"], "usage"),
        (["show", 'us"ers; drop table users', "1"], "table-missing"),
    ],
)
def test_invalid_row_query_is_refused(answer, words, code):
    response = answer(
        "data",
        *words,
        status=5 if code.endswith(("-missing", "-not-found")) and code != "column-missing" else 2,
    )
    assert response["code"] == code


def test_secrets_are_shown_only_with_secrets_option(path, dbctl, answer):
    for words in (
        ["rows", "users"],
        ["show", "users", "1"],
        ["rows", "refresh_tokens"],
        ["export", "refresh_tokens", "-"],
    ):
        for form in ("table", "json", "csv"):
            _, out, err = dbctl("data", *words, "-o", form)
            assert hash_of(path) not in out + err
            assert TOKEN not in out + err
    assert answer("data", "show", "users", "1")["password_hash"] == "***"
    assert answer("data", "show", "users", "1", "--secrets")["password_hash"] == hash_of(path)
    assert (
        answer("data", "rows", "users", "--secrets", "--filter", f"password_hash={hash_of(path)}")["total"]
        >= 1
    )
    assert answer("data", "query", "select * from users", status=6)["code"] == "secret-column"
    assert answer("data", "query", "select * from users", "--secrets")["total"] == 3


# Editing ---------------------------------------------------------------------------------------------------------


def test_row_change_uses_column_types_and_is_logged(path, answer):
    response = answer(
        "data", "set", "user_game_plays", "1", "ended_at=2025-01-02T03:04:05Z", "duration_seconds=60"
    )
    assert response["before"] == {"ended_at": None, "duration_seconds": None}
    assert response["after"] == {"ended_at": "2025-01-02T03:04:05.000Z", "duration_seconds": 60}
    ((action, details),) = query_rows(
        path, "select action, details from activity_logs order by id desc limit 1"
    )
    assert action == "data.set"
    assert json.loads(details)["changed"]["duration_seconds"] == [None, 60]
    assert answer("data", "set", "user_game_plays", "1", "duration_seconds=60")["changed"] is False
    answer("data", "set", "user_game_plays", "1", "--null", "ended_at")
    assert query_rows(path, "select ended_at from user_game_plays where id = 1") == [(None,)]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["user_game_plays", "1", "duration_seconds=long"], "value-invalid"),
        (["user_game_plays", "1", "started_at=yesterday"], "value-invalid"),
        (["user_game_plays", "1", "--null", "started_at"], "value-invalid"),
        (["user_game_plays", "1", "id=2"], "usage"),
        (["user_game_plays", "1", "nope=2"], "column-missing"),
        (["user_game_plays", "1"], "usage"),
        (["user_game_plays", "1", "duration_seconds"], "usage"),
        (["user_game_plays", "1", "duration_seconds=1", "--null", "duration_seconds"], "usage"),
        (["user_game_plays", "77", "duration_seconds=1"], "row-not-found"),
        (["refresh_tokens", "1", "token=abc"], "value-invalid"),
        (["users", "2", "password_hash=abc"], "use-dedicated-command"),
        (["users", "2", "--null", "role_id"], "use-dedicated-command"),
        (["users", "2", "username=a"], "value-invalid"),
        (["users", "2", "email=nonsense"], "value-invalid"),
        (["users", "2", "username=ROOT"], "already-exists"),
        (["users", "2", "role_id=77"], "role-missing"),
        (["users", "1", "is_active=no"], "last-admin"),
        (["users", "1", "role_id=2"], "last-admin"),
        (["system_settings", "1", "value=x"], "use-dedicated-command"),
        (["roles", "1", "name=x"], "use-dedicated-command"),
    ],
)
def test_change_against_rule_is_refused(path, answer, words, code):
    before = flashpoint_app.read_all_rows(path)
    status = {"row-not-found": 5, "role-missing": 5, "already-exists": 6, "last-admin": 6}.get(code, 2)
    assert answer("data", "set", *words, status=status)["code"] == code
    assert answer("data", "set", *words, "--dry-run", status=status)["code"] == code
    assert flashpoint_app.read_all_rows(path) == before


def test_user_row_change_follows_user_rules(path, answer):
    response = answer("data", "set", "users", "2", "role_id=1", "email=ann@example.net")
    assert (response["after"]["role_id"], response["ended_sessions"]) == (1, 2)
    ((changed,),) = query_rows(path, "select updated_at from users where id = 2")
    assert changed > "2026"
    answer("data", "set", "users", "1", "is_active=no")
    assert answer("data", "set", "users", "2", "is_active=no", status=6)["code"] == "last-admin"


def test_dry_run_shows_steps_and_changes_nothing(path, dbctl):
    before = flashpoint_app.read_all_rows(path)
    _, out, _ = dbctl("data", "set", "users", "2", "is_active=no", "--dry-run")
    assert "end 2 sessions" in out
    _, out, _ = dbctl("data", "delete", "user_game_plays", "1", "-n")
    assert "delete user_game_plays 1" in out
    assert "This destroys data." in out
    assert flashpoint_app.read_all_rows(path) == before


def test_deleting_row_cascades_by_foreign_keys(path, answer):
    assert answer("data", "delete", "user_game_plays", "1", status=6)["code"] == "confirmation-missing"
    assert answer("data", "delete", "user_game_plays", "1", "--yes")["rows"] == {"user_game_plays": 1}
    response = answer("data", "delete", "users", "2", "--yes")
    assert (response["rows"]["users"], response["rows"]["refresh_tokens"]) == (1, 3)
    assert query_rows(path, "select count(*) from refresh_tokens where user_id = 2") == [(0,)]
    assert answer("data", "delete", "users", "1", "--yes", status=6)["code"] == "last-admin"
    assert answer("data", "delete", "roles", "3", "--yes", status=2)["code"] == "use-dedicated-command"


def test_ledger_rows_can_only_be_changed_by_migrate(path, answer):
    if not query_rows(path, "select 1 from sqlite_master where name = 'migrations'"):
        change(path, "create table migrations (id integer primary key, name text, applied_at text)")
    (path.parent / "rows.csv").write_text("name\n009_invented\n")
    for words in (
        ["delete", "migrations", "1", "--yes"],
        ["delete", "migrations", "--filter", "id=1", "--yes"],
        ["set", "migrations", "1", "name=x"],
        ["import", "migrations", "rows.csv"],
    ):
        assert answer("data", *words, status=2)["code"] == "use-dedicated-command"


def test_tables_of_an_index_are_not_changed(path, answer, tmp_path):
    change(path, "create virtual table words using fts5 (body)", "insert into words values ('one'), ('two')")
    (tmp_path / "rows.csv").write_text("id,block\n10,x\n")
    for words in (
        ["delete", "words_data", "10", "--yes"],
        ["delete", "words_data", "--filter", "id>0", "--yes"],
        ["set", "words_data", "10", "block=x"],
        ["add", "words_config", "k=a", "v=b"],
        ["import", "words_data", str(tmp_path / "rows.csv")],
    ):
        error = answer("data", *words, status=2)
        assert (error["code"], "belongs to an index" in error["message"]) == ("usage", True)
    assert query_rows(path, "select rowid from words where words match 'two'") == [(2,)]


@pytest.mark.parametrize("content", ["notes", ""])
def test_full_text_index_without_rows_of_its_own_is_not_changed(path, answer, tmp_path, content):
    change(
        path, "create table notes (id integer primary key, body text)", "insert into notes values (1, 'one')"
    )
    change(path, f"create virtual table words using fts5 (body, content = '{content}', content_rowid = 'id')")
    (tmp_path / "rows.csv").write_text("body\ntwo\n")
    for words in (["add", "words", "body=two"], ["import", "words", str(tmp_path / "rows.csv")]):
        error = answer("data", *words, "--yes", status=2)
        assert (error["code"], "belongs to an index" in error["message"]) == ("usage", True)
    assert query_rows(path, "select rowid from words where words match 'two'") == []


def test_referenced_row_is_not_deleted(path, answer):
    change(path, "create table shelves (id integer primary key)", "insert into shelves values (1)")
    change(
        path,
        "create table books (id integer primary key, shelf integer references shelves (id))",
        "insert into books values (1, 1)",
    )
    response = answer("data", "delete", "shelves", "1", "--yes", status=6)
    assert response["code"] == "constraint"
    assert "1 row of books" in response["message"]


def test_composite_and_missing_keys(path, answer):
    change(
        path,
        "create table pairs (a integer not null, b text not null, c text, primary key (a, b))",
        "insert into pairs values (1, 'x', 'one'), (1, 'y', 'two')",
        "create table loose (a integer)",
        "create view few as select username, password_hash from users",
    )
    assert answer("data", "show", "pairs", "1", "y")["c"] == "two"
    assert answer("data", "set", "pairs", "1", "y", "c=three")["key"] == {"a": 1, "b": "y"}
    assert answer("data", "show", "pairs", "1", status=2)["code"] == "usage"
    for words in (["a=1"], ["1", "a=1"]):
        refused = answer("data", "set", "loose", *words, status=2)
        assert (refused["code"], "without a primary key" in refused["message"]) == ("usage", True)
    assert answer("data", "rows", "few")["items"][0]["password_hash"] == "***"
    assert answer("data", "set", "few", "username=x", status=2)["code"] == "usage"


def test_key_pagination_is_stable_under_deletions(path, answer):
    def page(*words):
        response = answer("data", "rows", "users", "--columns", "id", "--limit", "1", *words)
        return (
            [item["id"] for item in response["items"]],
            response["total"],
            response["offset"],
            response["has_more"],
        )

    assert page() == ([1], 3, 0, True)
    assert page("--after", "1") == ([2], 3, 1, True)
    change(path, "delete from users where id in (1, 2)")
    assert page("--offset", "2") == ([], 1, 2, False), "pagination by offset skips the third row"
    assert page("--after", "2") == ([3], 1, 0, False)
    assert page("--after", "3") == ([], 1, 1, False)
    assert page("--after", "0", "--filter", "id>3") == ([], 0, 0, False)


def test_pagination_uses_all_columns_of_composite_key(path, answer):
    change(
        path,
        "create table pairs (a integer not null, b text not null, primary key (a, b))",
        "insert into pairs values (1, 'x'), (1, 'y'), (2, ''), (2, 'it''s')",
    )
    response = answer("data", "rows", "pairs", "--after", "1", "--after", "y", "--limit", "1")
    assert response == {"items": [{"a": 2, "b": ""}], "total": 4, "limit": 1, "offset": 2, "has_more": True}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("users", ["1", "--sort", "id"]),
        ("users", ["1", "--offset", "1"]),
        ("users", ["1", "--after", "2"]),
        ("few", ["1"]),
        ("user_playlists", ["x"]),  # a secret, which pagination would reveal letter by letter
    ],
)
def test_after_option_requires_primary_key_order(path, answer, table, words):
    change(
        path,
        "create view few as select username from users",
        "drop table if exists user_playlists",
        "create table user_playlists (share_token text primary key)",
    )
    assert answer("data", "rows", table, "--after", *words, status=2)["code"] == "usage"


# Querying --------------------------------------------------------------------------------------------------------


def test_query_result_in_every_format(path, dbctl, answer, monkeypatch, tmp_path):
    sql = "select id, username from users where id < :n order by id"
    assert answer("data", "query", sql, "--param", "n=3") == {
        "items": [{"id": 1, "username": "root"}, {"id": 2, "username": "ann"}],
        "total": 2,
        "limit": 1000,
        "offset": 0,
        "has_more": False,
    }
    assert dbctl("data", "query", sql, "--param", "n=3", "-o", "csv")[1] == "id,username\n1,root\n2,ann\n"
    assert dbctl("data", "query", sql, "--param", "n=3", "-o", "jsonl", "--limit", "1")[1] == (
        '{"id": 1, "username": "root"}\n'
    )
    assert dbctl("data", "query", sql, "--param", "n=0", "-o", "tsv")[1] == "id\tusername\n"
    assert dbctl("data", "query", "select 1 as a, 2 as a", "-o", "csv")[1] == "a,a_2\n1,2\n"
    first = answer("data", "query", "select id from users order by id", "--limit", "2")
    assert (len(first["items"]), first["total"], first["has_more"]) == (2, None, True)
    (tmp_path / "q.sql").write_text("select 7 as seven;\n")
    assert dbctl("data", "query", "--file", str(tmp_path / "q.sql"), "-o", "csv")[1] == "seven\n7\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"select 8 as eight")))
    assert dbctl("data", "query", "-", "-o", "csv")[1] == "eight\n8\n"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("cache_size", -2000),
        ("synchronous", 2),
        ("foreign_keys", 0),
        ("busy_timeout", 100),  # dbctl itself waits for a lock, in steps
        ("mmap_size", 0),
        ("wal_autocheckpoint", 1000),
    ],
)
def test_pragma_shows_setting_of_the_reading_connection(path, answer, setting, value):
    (row,) = answer("data", "query", f"pragma {setting}", "--db", "user")["items"]
    assert list(row.values()) == [value]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_pragma_shows_journal_mode_of_the_file(path, answer, mode):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"pragma journal_mode = {mode}")
    for sql in ("pragma journal_mode", "PRAGMA main.journal_mode;"):
        assert answer("data", "query", sql, "--db", "user")["items"] == [{"journal_mode": mode}]


@pytest.mark.parametrize(
    "sql",
    [
        "insert into users (id) values (99)",
        "pragma journal_mode = delete",
        "select idd from users",
        "select ?",
    ],
)
def test_hint_of_refused_query_omits_profile_check(path, answer, sql):
    error = answer("data", "query", sql, "--db", "user", status=1)
    assert error["code"] == "query-failed"
    assert "apps check" not in error["hint"]


@pytest.mark.parametrize(
    "sql", ["pragma wal_checkpoint(passive)", "PRAGMA main.wal_checkpoint", " pragma wal_checkpoint = full"]
)
def test_checkpoint_query_hint_names_checkpoint_command(path, answer, sql):
    error = answer("data", "query", sql, "--db", "user", status=1)
    assert "dbctl maintain checkpoint" in error["hint"]
    answer("maintain", "checkpoint", "--db", "user")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["delete from users"], 1),
        (["pragma journal_mode = wal"], 1),
        (["select 1; select 2"], 1),
        (["select :n"], 1),
        (["select 1", "--file", "x"], 2),
        ([], 2),
        (
            [
                "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n",
                "--within",
                "1s",
            ],
            6,
        ),
    ],
)
def test_writing_statement_is_refused(path, answer, words, status):
    before = flashpoint_app.read_all_rows(path)
    answer("data", "query", *words, status=status)
    assert flashpoint_app.read_all_rows(path) == before


# Files -----------------------------------------------------------------------------------------------------------


def test_failed_export_leaves_no_file(path, answer, monkeypatch):
    files = {path.parent / "users.csv", *path.parent.iterdir()}
    response = answer("data", "export", "users", "users.csv")
    assert (response["rows"], response["left_out"], response["format"]) == (3, ["password_hash"], "csv")
    file = path.parent / "users.csv"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_size == response["bytes"]
    assert answer("data", "export", "users", "users.csv", status=6)["code"] == "file-exists"
    assert answer("data", "export", "users", "no/such/place.csv", status=1)["code"] == "file-failed"
    assert answer("data", "export", "nope", "other.csv", status=5)["code"] == "table-missing"

    def fail_to_write(*_more, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(csv_jsonl, "_encode_text", fail_to_write)
    answer("data", "export", "users", "other.csv", status=1)
    assert set(path.parent.iterdir()) == files


def test_query_export_and_excel_safe_export(path, dbctl, answer):
    change(path, "update users set username = '=1+1' where id = 3")
    status, out, _ = dbctl(
        "data", "export", "--query", "select id, username from users where id = :n", "-", "--param", "n=3"
    )
    assert (status, out) == (0, "id,username\n3,=1+1\n")
    assert (
        dbctl("data", "export", "users", "-", "--columns", "username", "--excel-safe")[1].splitlines()[-1]
        == "'=1+1"
    )
    assert (
        answer("data", "export", "users", "-", "--format", "jsonl", "--excel-safe", status=2)["code"]
        == "usage"
    )
    words = ("data", "export", "users", "-", "--columns", "password_hash", "--format", "csv")
    assert "password_hash" in answer(*words, status=2)["message"]
    assert dbctl("data", "export", "--query", "select token from refresh_tokens", "-")[0] == 6


def test_export_to_standard_output_has_the_selected_format(dbctl, answer):
    words = ("data", "export", "--query", "select id from users where id = 3", "-")
    assert dbctl(*words, "-o", "csv")[1] == "id\n3\n"
    assert dbctl(*words, "-o", "jsonl")[1] == '{"id":3}\n'
    assert dbctl(*words, "-o", "jsonl", "--format", "csv")[1] == "id\n3\n"
    assert "--format jsonl" in answer(*words, status=2)["message"]  # with -o json


def test_import_adds_all_rows_and_is_logged(path, dbctl, answer):
    dbctl("data", "export", "user_game_plays", "plays.jsonl")
    exported_rows = query_rows(path, "select * from user_game_plays order by id")
    change(path, "delete from user_game_plays")
    assert answer("data", "import", "user_game_plays", "plays.jsonl", "--dry-run")["plan"]["rows"] == {
        "user_game_plays": 2
    }
    assert query_rows(path, "select count(*) from user_game_plays") == [(0,)]
    assert answer("data", "import", "user_game_plays", "plays.jsonl")["added"] == 2
    assert query_rows(path, "select * from user_game_plays order by id") == exported_rows
    ((details,),) = query_rows(path, "select details from activity_logs where action = 'data.import'")
    assert json.loads(details) == {"rows": 2, "file": "plays.jsonl", "by": "dbctl"}
    response = answer("data", "import", "user_game_plays", "plays.jsonl", status=6)
    assert response["code"] == "constraint"
    assert "line 1 of plays.jsonl" in response["message"]


def test_import_reports_every_invalid_line_and_writes_nothing(path, answer):
    (path.parent / "bad.csv").write_text(
        "user_id,token,expires_at\n1,***,2020-01-01\n1,,2020-01-01\n1,new,2020-01-01\n1,new\n"
    )
    before = flashpoint_app.read_all_rows(path)
    response = answer("data", "import", "refresh_tokens", "bad.csv", status=2)
    assert response["code"] == "import-invalid"
    assert [line.partition(":")[0] for line in response["message"].splitlines()[1:]] == [
        "line 2",
        "line 3",
        "line 5",
    ]
    assert flashpoint_app.read_all_rows(path) == before


@pytest.mark.parametrize("words", [["parts"], ["parts", "--create"]])
@pytest.mark.parametrize(
    ("text", "count"),
    [
        (b'{"id": 1}\n{"id": 2, "x": 3}\n{"id": 4}\n', "1 or more"),
        (b'{"id": 1}\nnone\n', "1 or more"),
        (b"none", "1 or more"),
        (b"id\n" + b"1,2\n" * 2000, "1000 or more"),
        (b"id\n1,2\n3\n", "1 of 2"),
    ],
)
def test_rows_after_the_end_of_a_check_are_not_counted(path, answer, words, text, count):
    if "--create" not in words:
        change(path, "create table parts (id integer primary key)")
    name = "bad.csv" if text.startswith(b"id") else "bad.jsonl"
    (path.parent / name).write_bytes(text)
    error = answer("data", "import", *words, name, status=2)
    assert (error["code"], f" {count} rows " in error["message"]) == ("import-invalid", True), error[
        "message"
    ]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("user_id,nope\n1,2\n", "column-missing"),
        ("user_id\n1\n", "usage"),
        ("", "import-invalid"),
        ('user_id,token,expires_at\n1,"open,2\n', "import-invalid"),
        ("user_id,token,expires_at\n77,new,2020-01-01\n", "constraint"),
    ],
)
def test_file_with_wrong_columns_is_refused(path, answer, text, code):
    (path.parent / "bad.csv").write_text(text)
    before = flashpoint_app.read_all_rows(path)
    assert (
        answer("data", "import", "refresh_tokens", "bad.csv", status=6 if code == "constraint" else 2)["code"]
        == code
    )
    assert flashpoint_app.read_all_rows(path) == before


def test_imported_rows_may_refer_to_later_rows(path, answer, monkeypatch):
    change(path, "create table parts (id integer primary key, whole integer references parts (id))")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"id,whole\n1,2\n2,\n")))
    assert answer("data", "import", "parts", "-")["added"] == 2
    (path.parent / "bad.csv").write_text("id,whole\n3,9\n")
    assert answer("data", "import", "parts", "bad.csv", status=6)["code"] == "constraint"
    assert query_rows(path, "select count(*) from parts") == [(2,)]


def test_generated_columns_are_not_imported(path, answer):
    change(
        path,
        "create table doubled (id integer primary key, twice as (id * 2))",
        "insert into doubled values (4)",
    )
    change(path, "create view few as select username from users")
    assert answer("data", "export", "doubled", "doubled.csv")["columns"] == ["id"]
    (path.parent / "bad.csv").write_text("id,twice\n5,10\n")
    assert answer("data", "import", "doubled", "bad.csv", status=2)["code"] == "usage"
    assert answer("data", "set", "doubled", "4", "twice=9", status=2)["code"] == "usage"
    (path.parent / "few.csv").write_text("username\nx\n")
    assert answer("data", "import", "few", "few.csv", status=2)["code"] == "usage"


def test_non_utf8_text_round_trips_through_csv(path, dbctl, answer):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update users set username = cast(x'c3' as text) where id = 3")
    dbctl("data", "export", "users", "users.csv", "--columns", "id,username")
    assert b"3,\xc3\n" in (path.parent / "users.csv").read_bytes()
    dbctl("data", "export", "users", "users.jsonl", "--columns", "id,username")
    assert b'"username":{"$b64text":"ww=="}' in (path.parent / "users.jsonl").read_bytes()
    change(path, "create table names (id integer primary key, username text)")
    answer("data", "import", "names", "users.csv")
    answer("data", "delete", "names", "3", "--yes")
    lines = (path.parent / "users.jsonl").read_text().splitlines(keepends=True)
    (path.parent / "third.jsonl").write_text("".join(line for line in lines if '"id":3,' in line))
    answer("data", "import", "names", "third.jsonl")
    with closing(sqlite3.connect(path)) as connection:
        sql = "select count(*), sum(cast(n.username as blob) = cast(u.username as blob)), sum(typeof(n.username) = 'text')"
        assert connection.execute(f"{sql} from users u left join names n using (id)").fetchone() == (3, 3, 3)


# Adding a row, and changing several --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["add", "users", "username=zoe"], "use-dedicated-command"),
        (["add", "system_settings", "category=x", "value=1"], "use-dedicated-command"),
        (["add", "roles", "name=x"], "use-dedicated-command"),
        (["add", "refresh_tokens", "token=x"], "value-invalid"),
        (["set", "users", "role_id=1", "--filter", "id>1"], "use-dedicated-command"),
        (["set", "users", "is_active=yes", "--filter", "id>1"], "use-dedicated-command"),
        (["set", "system_settings", "value=1", "--filter", "id>0"], "use-dedicated-command"),
        (["set", "roles", "name=x", "--filter", "id>0"], "use-dedicated-command"),
        (["set", "refresh_tokens", "token=x", "--filter", "id>0"], "value-invalid"),
        (["set", "refresh_tokens", "user_id=1", "--filter", "token:a"], "usage"),
        (["delete", "users", "--filter", "id>1"], "use-dedicated-command"),
        (["delete", "roles", "--filter", "id>0"], "use-dedicated-command"),
        (["delete", "refresh_tokens", "--filter", "token:a"], "usage"),
    ],
)
def test_app_rules_apply_to_added_and_filtered_rows(path, answer, words, code):
    before = flashpoint_app.read_all_rows(path)
    assert answer("data", *words, "--yes", status=2)["code"] == code
    assert flashpoint_app.read_all_rows(path) == before


def test_added_and_filtered_changes_are_logged(path, answer):
    added = answer("data", "add", "login_attempts", "username=zoe", "ip_address=10.0.0.9", "success=no")
    assert (added["row"]["username"], added["row"]["success"]) == ("zoe", 0)
    changed = answer(
        "data", "set", "login_attempts", "ip_address=10.0.0.1", "--filter", "username=zoe", "--yes"
    )
    assert changed["changed"] == 1
    actions = query_rows(path, "select action, resource_id from activity_logs order by id desc limit 2")
    assert actions == [("data.set", ""), ("data.add", str(added["key"]["id"]))]
    (details,) = query_rows(path, "select details from activity_logs order by id desc limit 1")
    assert json.loads(details[0])["rows"] == 1
