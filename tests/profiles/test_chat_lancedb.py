"""Chat with LanceDB: every feature on the documented variant and on deployments of each version."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dbctl.cli.main import main
from tests.shapes import chat_lancedb
from tests.shapes.chat_lancedb import (
    ANON,
    ANSWER,
    FOLLOW_UP,
    GARDEN,
    GOOGLE,
    OLD,
    PLANTS,
    PYTHON,
    QUESTION,
    THEIR,
    THEIRS,
)

VARIANTS = ("document", "halfway", "deployed")
Run = Callable[..., Any]
Rows = Callable[[str], list[tuple[Any, ...]]]
of_document = pytest.mark.parametrize("chat", ["document"], indirect=True)
of_deployment = pytest.mark.parametrize("chat", ["deployed"], indirect=True)


@pytest.fixture(params=VARIANTS)
def chat(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path: Path = getattr(chat_lancedb, request.param)(tmp_path / "data/chat.db")
    return path


@pytest.fixture
def rows(chat: Path) -> Rows:
    def rows(sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(chat, isolation_level=None)) as connection:
            return connection.execute(sql).fetchall()

    return rows


@pytest.fixture
def run(chat: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command on the deployment and returns its data, or its error if the expected status is not 0."""

    def run(*words: str, status: int | None = 0) -> Any:
        capsys.readouterr()
        exit_status = main(["--profile", "chat-lancedb", "--url", f"chat={chat}", "-o", "json", *words])
        shown = capsys.readouterr()
        assert chat_lancedb.TOKEN not in shown.out + shown.err
        output = json.loads(shown.out)
        assert status in (None, exit_status), output
        return output["data"] if output["data"] is not None else output["error"]

    return run


# The profile -----------------------------------------------------------------------------------------------------------


def test_profile_and_databases_agree(run: Run) -> None:
    assert run("apps", "check")["findings"] == []


def test_init_finds_database_and_app_directory(
    chat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., dict[str, Any]]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = answer("init", "chat-lancedb")["data"]
    assert result["databases"] == {"chat": "data/chat.db"}
    assert result["missing"] == ["vectors"]
    assert 'keep = { within = "7d" }' in Path("dbctl.toml").read_text(encoding="utf-8")


def test_journal_mode_is_unchanged(run: Run, rows: Rows) -> None:
    run("data", "set", "chats", GARDEN, "title=Beds")
    assert rows("pragma journal_mode") == [("delete",)]


def test_new_file_has_write_ahead_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., dict[str, Any]]
) -> None:
    monkeypatch.chdir(tmp_path)
    answer("--profile", "chat-lancedb", "--url", "chat=new.db", "migrate", "up", "--db", "chat")
    with closing(sqlite3.connect("new.db")) as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)


def test_bytes_are_counted_per_user(run: Run, rows: Rows) -> None:
    report = {row["id"]: row for row in run("stats", "run", "storage-per-user")["items"]}
    assert len(report) == rows("select count(*) from users")[0][0]
    messages = rows(f"select id, content || metadata from messages where user_id = '{ANON}'")
    text = sum(len(message.encode()) for _, message in messages)
    data = rows("select message_id, data from attachments where data is not null")
    attachments = sum(len(content) for message, content in data if message in dict(messages))
    assert (report[ANON]["text_bytes"], report[ANON]["attachment_bytes"]) == (text, attachments)
    assert report[ANON]["bytes"] == text + attachments > 0


# Users without passwords -----------------------------------------------------------------------------------------------


def test_users_are_found_by_id_of_any_form(run: Run) -> None:
    for key in (ANON, OLD):
        assert run("users", "show", key)["id"] == key
    users = run("users", "list", "--sort", "id")["items"]
    assert [user["login"] for user in users if user["id"] != GOOGLE] == sorted([ANON, OLD])
    assert run("users", "show", "user-0a1b2c3d-4e5f6071-8293a4b5-c6d7e8f9")["id"] == ANON
    assert run("users", "show", "nobody", status=5)["code"] == "user-missing"


@of_deployment
def test_signed_in_user_is_found_by_email(run: Run) -> None:
    user = run("users", "show", "ada@example.org")
    assert (user["id"], user["account_type"], user["migrated_from"]) == (
        GOOGLE, "google", "USER-GONE",
    )  # fmt: skip
    assert [user["id"] for user in run("users", "list", "--filter", "account_type=google")["items"]] == [
        GOOGLE
    ]


def test_commands_for_passwords_and_roles_report_missing_feature(run: Run) -> None:
    for arguments in (
        f"users set-password {ANON} --generate",
        f"users check-password {ANON} --password-file none",
        "users create USER-NEW --generate",
        f"users set-role {ANON} admin",
        f"users unlock {ANON}",
        "users list --role admin",
        "roles list",
        "sessions list",
        "settings list",
    ):
        assert run(*arguments.split(), status=2)["code"] in ("feature-missing", "usage"), arguments
    assert run("users", "set-password", ANON, "--generate", status=2)["message"].endswith("has no passwords")
    assert run("settings", "list", status=2)["hint"].startswith("It has settings of users: add --user NAME.")


def test_user_is_created_once_with_any_id(run: Run, rows: Rows) -> None:
    run("users", "create", "SERVER-USER")
    assert rows("select preferences from users where id = 'SERVER-USER'") == [("{}",)]
    assert run("users", "create", "SERVER-USER", status=6)["code"] == "already-exists"
    assert run("users", "ensure", "SERVER-USER")["changed"] is False
    assert run("users", "update", "SERVER-USER", "--set", "id=OTHER", status=2)["code"] == "usage"


@of_deployment
def test_exported_users_are_imported_with_their_ids(
    run: Run, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exported = run("users", "export")
    (tmp_path / "people.json").write_text(json.dumps(exported), encoding="utf-8")
    run("users", "delete", ANON, GOOGLE, OLD, "--yes")
    assert run("users", "import", "people.json")["added"] == 3
    assert rows("select id, email, google_id, account_type from users order by id") == [
        (GOOGLE, "ada@example.org", GOOGLE, "google"),
        (ANON, None, None, "anonymous"),
        (OLD, None, None, "anonymous"),
    ]


def test_statistics_count_chats_messages_and_attachments(run: Run) -> None:
    expected = {"chats": 2, "messages": 4, "attachments": 2}
    assert run("users", "show", ANON)["statistics"] == expected
    statistics = run("stats", "user", ANON)
    assert statistics["statistics"] == expected
    assert (statistics["rows"]["chats"], statistics["rows"]["messages"]) == (2, 4)


def test_deleting_user_deletes_chats_messages_and_attachments(run: Run, rows: Rows) -> None:
    plan = run("users", "delete", ANON, "--dry-run")["plan"]
    assert plan["rows"] == {"users": 1, "chats": 2, "messages": 4, "attachments": 2}
    assert run("users", "delete", ANON, "--yes")["rows"] == plan["rows"]
    query = "select (select count(*) from chats), (select count(*) from messages), (select count(*) from attachments)"
    assert rows(query) == [(1, 1, 0)]
    assert rows("pragma foreign_key_check") == []


@of_deployment
def test_account_tokens_are_hidden(run: Run) -> None:
    (row,) = run("data", "rows", "accounts")["items"]
    assert {row[name] for name in ("access_token", "refresh_token", "id_token", "session_state")} == {"***"}
    run("data", "show", "accounts", "acc-1")
    assert run("data", "query", "select access_token from accounts", status=6)["code"] == "secret-column"


# Preferences -----------------------------------------------------------------------------------------------------------


def test_preferences_are_user_settings(run: Run, rows: Rows) -> None:
    def read_preferences() -> Any:
        return rows(f"select preferences from users where id = '{ANON}'")[0][0]

    user = ("--user", ANON)
    settings = run("settings", "list", *user)["items"]
    assert [(setting["key"], setting["value"], setting["type"]) for setting in settings] == [
        ("size", 14, "number"),
        ("theme", "dark", "string"),
    ]
    assert run("users", "show", ANON)["settings"] == {"size": 14, "theme": "dark"}
    run("settings", "set", "size", "16", *user)
    run("settings", "set", "language", "en", *user)
    run("settings", "set", "panels", '{"left": [1, 2.5, null]}', *user)
    assert read_preferences() == '{"theme":"dark","size":16,"language":"en","panels":{"left":[1,2.5,null]}}'
    assert run("settings", "set", "size", "large", *user, status=2)["code"] == "value-invalid"
    run("settings", "reset", "panels", *user)
    assert json.loads(read_preferences()) == {"theme": "dark", "size": 16, "language": "en"}
    assert run("settings", "get", "theme", *user)["value"] == "dark"
    assert run("settings", "get", "themes", *user, status=5)["code"] == "setting-missing"
    assert run("settings", "export", *user) == json.loads(read_preferences())


def test_preferences_are_applied_from_file(run: Run, rows: Rows, tmp_path: Path) -> None:
    file = tmp_path / "wanted.json"
    file.write_text('{"theme": {"name": "light"}, "beta": true}', encoding="utf-8")
    result = run("settings", "apply", str(file), "--mode", "exact", "--user", ANON, "--yes")
    assert (result["added"], result["changed"], result["removed"]) == (["beta"], ["theme"], ["size"])
    assert rows(f"select preferences from users where id = '{ANON}'") == [
        ('{"theme":{"name":"light"},"beta":true}',)
    ]


def test_preferences_cannot_be_changed_as_column(run: Run) -> None:
    error = run("data", "set", "users", ANON, "preferences={}", status=2)
    assert "settings set KEY VALUE --user LOGIN" in error["hint"]
    assert run("data", "set", "users", ANON, "last_active=2025-10-21 00:00:00")["changed"]


@pytest.mark.parametrize("text", ["[1]", "{", '{"a":1,"a":2}', '"x"', "null"])
@of_document
def test_preferences_that_are_not_object_are_reported_and_unchanged(run: Run, rows: Rows, text: str) -> None:
    rows(f"update users set preferences = '{text}' where id = '{OLD}'")
    assert run("settings", "list", "--user", OLD, status=2)["code"] == "value-invalid"
    assert run("settings", "set", "theme", "dark", "--user", OLD, status=2)["code"] == "value-invalid"
    assert run("users", "show", OLD)["settings"] == {"preferences": text}
    assert rows(f"select preferences from users where id = '{OLD}'") == [(text,)]


# Chats, messages, attachments ------------------------------------------------------------------------------------------


def test_renaming_chat_updates_its_time(run: Run, rows: Rows) -> None:
    run("data", "set", "chats", PYTHON, "title=Snakes")
    assert rows(f"select title, updated_at > '2026-' from chats where id = '{PYTHON}'") == [("Snakes", 1)]


def test_import_does_not_add_second_active_chat(run: Run, rows: Rows, tmp_path: Path) -> None:
    def write_chats(*chats_to_add: tuple[str, str, int]) -> str:
        lines = [
            json.dumps(
                dict(zip(("id", "user_id", "title", "is_active"), (chat_id, user_id, "T", on), strict=True))
            )
            for chat_id, user_id, on in chats_to_add
        ]
        (tmp_path / "chats.jsonl").write_text("\n".join(lines))
        return str(tmp_path / "chats.jsonl")

    run("data", "set", "chats", GARDEN, "is_active=true")
    error = run("data", "import", "chats", write_chats(("new-1", ANON, 0), ("new-2", ANON, 1)), status=6)
    assert error["code"] == "constraint"
    assert error["message"].endswith(
        f"is_active of chats may be true in a single row of one user_id, but would be in several: {ANON}"
    )
    assert rows("select id from chats where id like 'new-%'") == []
    run("users", "create", "SOMEBODY")
    run("data", "import", "chats", write_chats(("new-1", ANON, 0), ("new-2", "SOMEBODY", 1)))
    rows("update chats set is_active = 1 where id = 'new-1'")  # not by dbctl
    assert run("data", "import", "chats", write_chats(("new-3", "SOMEBODY", 0)))["added"] == 1


def test_activating_chat_deactivates_others(run: Run, rows: Rows) -> None:
    active = "select id, updated_at > '2026-' from chats where is_active = 1 order by id"
    plan = run("data", "set", "chats", GARDEN, "is_active=true", "--dry-run")["plan"]
    assert plan["steps"] == ["change is_active from '0' to '1'", "change is_active of 1 other row to 0"]
    assert plan["rows"] == {"chats": 2}
    run("data", "set", "chats", GARDEN, "is_active=true")
    assert rows(active) == [(GARDEN, 0), (THEIRS, 0)]
    run("data", "set", "chats", GARDEN, "is_active=false")
    assert rows(active) == [(THEIRS, 0)]


def test_several_active_chats_are_reported_and_repaired(run: Run, rows: Rows) -> None:
    rows(f"update chats set is_active = 1 where id = '{GARDEN}'")
    (finding,) = [
        finding
        for finding in run("integrity", "cross-check", status=None)["findings"]
        if "several active" in finding["message"]
    ]
    assert ANON in finding["message"]
    assert run("data", "set", "chats", GARDEN, "is_active=1")["changed"]
    assert rows(f"select id from chats where is_active = 1 and user_id = '{ANON}'") == [(GARDEN,)]


def test_transferred_chat_does_not_become_second_active_chat(run: Run, rows: Rows) -> None:
    run("data", "set", "chats", PYTHON, f"user_id={OLD}")
    assert rows("select id from chats where is_active = 1") == [(PYTHON,)]


@pytest.mark.parametrize(
    ("arguments", "deleted"),
    [
        (("attachments", "att-1"), {"attachments": 1}),
        (("messages", PLANTS), {"messages": 1, "attachments": 2}),
        (("chats", GARDEN), {"chats": 1, "messages": 1, "attachments": 2}),
    ],
)
def test_delete_cascades_to_planned_rows(
    run: Run, arguments: tuple[str, ...], deleted: dict[str, int]
) -> None:
    assert run("data", "delete", *arguments, "--dry-run")["plan"]["rows"] == deleted
    assert run("data", "delete", *arguments, "--yes")["rows"] == deleted


LISTED_NOT_STORED = "attachments in the list of a message that have no row"
STORED_NOT_LISTED = "attachments that are missing from the list of their message"
NO_ARRAY = "messages whose list of attachments is not a JSON array"


@pytest.mark.parametrize(
    ("listed", "differing"),
    [
        ('[{"id": "att-1"}, {"id": "att-2"}]', {}),
        ('["att-1", "att-2"]', {}),
        ('[{"name": "bed.jpg", "data": "x"}, {"name": "a.png"}]', {}),
        ('[{"id": "att-1"}]', {STORED_NOT_LISTED: [f"{PLANTS}: att-2"]}),
        ('["att-1", "att-2", {"id": "att-9"}]', {LISTED_NOT_STORED: [f"{PLANTS}: att-9"]}),
        ('["att-1", "att-2", {"name": "lost.jpg"}, null]', {LISTED_NOT_STORED: [f"{PLANTS}: number 3", f"{PLANTS}: number 4"]}),
        ("[]", {STORED_NOT_LISTED: [f"{PLANTS}: att-1", f"{PLANTS}: att-2"]}),
        ("", {STORED_NOT_LISTED: [f"{PLANTS}: att-1", f"{PLANTS}: att-2"]}),
        ("[broken", {NO_ARRAY: [PLANTS]}),
        ('{"id": "att-1"}', {NO_ARRAY: [PLANTS]}),
    ],
)  # fmt: skip
@of_deployment
def test_attachment_list_is_compared_with_rows(
    run: Run, rows: Rows, listed: str, differing: dict[str, list[str]]
) -> None:
    rows(f"update messages set attachments = '{listed}' where id = '{PLANTS}'")
    messages = [finding["message"] for finding in run("integrity", "cross-check", status=None)["findings"]]
    counts = {
        name: message.partition(f"{name} (")[2].removesuffix(")").split(", ")
        for name in (LISTED_NOT_STORED, STORED_NOT_LISTED, NO_ARRAY)
        for message in messages
        if name in message
    }
    assert counts == differing


# Documented queries ----------------------------------------------------------------------------------------------------


def test_latest_chats_of_a_user(run: Run) -> None:
    rows = run("stats", "run", "recent-chats", "--set", f"user={ANON}")["items"]
    assert [(row["id"], row["messages"]) for row in rows] == [(GARDEN, 1), (PYTHON, 3)]
    assert rows[1]["last_message_at"] == "2025-10-19T10:00:05.000Z"
    rows = run("stats", "run", "recent-chats", "--set", f"user={ANON}", "--set", "newest=1")["items"]
    assert [row["id"] for row in rows] == [GARDEN]


def test_history_keeps_order_of_messages_in_same_second(run: Run) -> None:
    rows = run("stats", "run", "history", "--set", f"chat={PYTHON}")["items"]
    assert [row["id"] for row in rows] == [ANSWER, QUESTION, FOLLOW_UP]


def test_a_message_with_its_attachments(run: Run) -> None:
    rows = run("stats", "run", "message", "--set", f"message={PLANTS}")["items"]
    assert [row["attachment_name"] for row in rows] == ["a.png", "bed.jpg"]
    assert {"attachments", "metadata"} <= set(rows[0])
    (alone,) = run("stats", "run", "message", "--set", f"message={QUESTION}")["items"]
    assert (alone["content"], alone["attachment_id"]) == ("A language, 100% readable", None)


def test_statistics_of_a_user(run: Run) -> None:
    (statistics,) = run("stats", "run", "user-statistics", "--set", f"user={ANON}")["items"]
    assert [statistics[name] for name in ("chats", "messages", "user_messages", "ai_responses")] == [
        2,
        4,
        3,
        1,
    ]


def test_messages_per_day(run: Run) -> None:
    days = {day["day"]: day for day in run("stats", "run", "messages-per-day")["items"]}
    assert [days["2025-10-20"][name] for name in ("messages", "user_messages", "ai_responses", "chats")] == [
        1,
        1,
        0,
        1,
    ]
    assert days["2025-10-19"]["messages"] == 3


def test_reports_run_on_every_variant(run: Run) -> None:
    for report in run("stats", "reports")["items"]:
        run("stats", "run", report["name"], *(word for name in report["parameters"] if name != "newest" for word in ("--set", f"{name}=x")))  # fmt: skip


def test_message_search_returns_newest_first(run: Run) -> None:
    def list_ids(*arguments: str) -> list[str]:
        return [message["id"] for message in run("search", "messages", *arguments)["items"]]

    assert list_ids("PYTHON") == [ANSWER, THEIR]
    assert list_ids("python", "--filter", f"user={ANON}") == [ANSWER]
    assert list_ids("100%") == [QUESTION]
    assert list_ids("--filter", "attachments>0") == [PLANTS]
    assert list_ids("--filter", "chat=a garden") == [PLANTS]
    assert list_ids("--filter", "role=user") == [PLANTS, FOLLOW_UP, ANSWER, THEIR]
    assert list_ids("--filter", "role=user", "--sort", "timestamp")[0] == THEIR
    assert [message["id"] for message in run("search", "chats")["items"]] == [GARDEN, PYTHON, THEIRS]


def test_message_search_returns_documented_columns(run: Run, rows: Rows) -> None:
    messages = run("search", "messages")["items"]
    columns = {
        "id",
        "chat_id",
        "chat_title",
        "user_id",
        "content",
        "role",
        "timestamp",
        "attachments",
        "metadata",
    }
    assert all(columns <= set(message) for message in messages)
    titles = dict(rows("select id, title from chats"))
    assert {message["chat_title"] for message in messages} > {titles[PYTHON], titles[GARDEN]}
    assert all(message["chat_title"] == titles[message["chat_id"]] for message in messages)
    (match,) = run("search", "messages", "100%", "--columns", "id,chat_title")["items"]
    assert match == {"id": QUESTION, "chat_title": titles[PYTHON]}


# Migrations ------------------------------------------------------------------------------------------------------------


UPGRADED = ["001_initial", "002_accounts", "003_users-who-sign-in"]
ERAS = {
    "document": (UPGRADED[:1], ["--variant", "upgraded"]),
    "halfway": (UPGRADED[:2], []),
    "deployed": (["001_users-accounts-chats"], []),
}


@pytest.mark.parametrize(
    ("chat", "known", "expected"),
    [(chat, *migrations) for chat, migrations in ERAS.items()],
    indirect=["chat"],
)
def test_baseline_detects_variant_and_up_applies_remaining_migrations(
    run: Run, rows: Rows, known: list[str], expected: list[str]
) -> None:
    before = rows("select * from messages") + rows("select * from chats")
    assert [migration["name"] for migration in run("migrate", "baseline")["items"]] == known
    result = [migration["name"] for migration in run("migrate", "up", *expected)["items"]]
    assert [*known, *result] == (UPGRADED if known[0] == UPGRADED[0] else known)
    columns = {name for _, name, *_ in rows("pragma table_info(users)")}
    assert columns == {
        "id", "email", "name", "image", "google_id", "account_type", "migrated_from", "created_at", "last_active",
        "preferences",
    }  # fmt: skip
    assert rows("select * from messages") + rows("select * from chats") == before
    assert run("migrate", "drift")["findings"] == []
    assert run("migrate", "verify")["findings"] == []
    assert run("apps", "check")["findings"] == []


@of_document
def test_unique_constraints_match_those_of_app(run: Run, rows: Rows) -> None:
    run("migrate", "baseline")
    run("migrate", "up", "--variant", "upgraded")
    assert rows("select distinct account_type from users") == [("anonymous",)]
    run("users", "update", ANON, "--email", "a@example.org")
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        rows(f"update users set email = 'a@example.org' where id = '{OLD}'")
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        rows(f"update users set account_type = 'admin' where id = '{OLD}'")


@pytest.mark.parametrize(
    ("chat", "expected"), [("halfway", True), ("document", False), ("deployed", False)], indirect=["chat"]
)
def test_partially_upgraded_schema_is_reported(run: Run, expected: bool) -> None:
    findings = run("integrity", "cross-check", status=4 if expected else 0)["findings"]
    assert any("newer version of the app requires" in finding["message"] for finding in findings) is expected


@of_document
def test_last_migration_is_reverted(run: Run, rows: Rows) -> None:
    run("migrate", "baseline")
    run("migrate", "up", "--variant", "upgraded")
    run("migrate", "down", "--steps", "2", "--yes", "--no-backup")
    assert [name for _, name, *_ in rows("pragma table_info(users)")] == [
        "id",
        "created_at",
        "last_active",
        "preferences",
    ]
    assert len(rows("select * from users")) == 2
