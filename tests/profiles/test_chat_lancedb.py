"""The chat with LanceDB: every ability on the shape of its document and on those of deployments of each time."""

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
    AGAIN,
    ANON,
    ASKED,
    GARDEN,
    GOOGLE,
    OLD,
    PLANTS,
    PYTHON,
    THEIR,
    THEIRS,
    TOLD,
)

SHAPES = ("document", "halfway", "deployed")
Run = Callable[..., Any]
Rows = Callable[[str], list[tuple[Any, ...]]]
of_document = pytest.mark.parametrize("chat", ["document"], indirect=True)
of_deployment = pytest.mark.parametrize("chat", ["deployed"], indirect=True)


@pytest.fixture(params=SHAPES)
def chat(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    made: Path = getattr(chat_lancedb, request.param)(tmp_path / "data/chat.db")
    return made


@pytest.fixture
def rows(chat: Path) -> Rows:
    def rows(sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(chat, isolation_level=None)) as connection:
            return connection.execute(sql).fetchall()

    return rows


@pytest.fixture
def run(chat: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on the deployment of the test; return its ``data``, or its error where another status is expected."""

    def run(*words: str, status: int | None = 0) -> Any:
        capsys.readouterr()
        found = main(["--profile", "chat-lancedb", "--url", f"chat={chat}", "-o", "json", *words])
        shown = capsys.readouterr()
        assert chat_lancedb.TOKEN not in shown.out + shown.err
        told = json.loads(shown.out)
        assert status in (None, found), told
        return told["data"] if told["data"] is not None else told["error"]

    return run


# The profile -------------------------------------------------------------------------------------------------------


def test_profile_and_databases_agree(run: Run) -> None:
    assert run("apps", "check")["findings"] == []


def test_init_finds_the_database_and_where_the_apps_own_files_are(
    chat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., dict[str, Any]]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = answer("init", "chat-lancedb")["data"]
    assert done["databases"] == {"chat": "data/chat.db"}
    assert done["missing"] == ["vectors"]
    assert 'keep = { within = "7d" }' in Path("dbctl.toml").read_text(encoding="utf-8")


def test_its_journal_stays_as_the_app_has_it(run: Run, rows: Rows) -> None:
    run("data", "set", "chats", GARDEN, "title=Beds")
    assert rows("pragma journal_mode") == [("delete",)]


# People who have no passwords ----------------------------------------------------------------------------------------


def test_users_are_found_by_an_id_of_any_form(run: Run) -> None:
    for key in (ANON, OLD):
        assert run("users", "show", key)["id"] == key
    listed = run("users", "list", "--sort", "id")["items"]
    assert [one["login"] for one in listed if one["id"] != GOOGLE] == sorted([ANON, OLD])
    assert run("users", "show", "user-0a1b2c3d-4e5f6071-8293a4b5-c6d7e8f9")["id"] == ANON
    assert run("users", "show", "nobody", status=5)["code"] == "user-missing"


@of_deployment
def test_who_signs_in_is_found_by_the_address_too(run: Run) -> None:
    found = run("users", "show", "ada@example.org")
    assert (found["id"], found["account_type"], found["migrated_from"]) == (
        GOOGLE, "google", "USER-GONE",
    )  # fmt: skip
    assert [one["id"] for one in run("users", "list", "--filter", "account_type=google")["items"]] == [GOOGLE]


def test_what_wants_a_password_or_a_role_says_that_there_is_none(run: Run) -> None:
    for words in (
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
        assert run(*words.split(), status=2)["code"] in ("ability-missing", "usage"), words
    assert run("users", "set-password", ANON, "--generate", status=2)["message"].endswith("has no passwords")
    assert run("settings", "list", status=2)["hint"].startswith("It has some of each user: --user NAME.")


def test_a_user_is_added_with_any_id_once(run: Run, rows: Rows) -> None:
    run("users", "create", "SERVER-USER")
    assert rows("select preferences from users where id = 'SERVER-USER'") == [("{}",)]
    assert run("users", "create", "SERVER-USER", status=6)["code"] == "already-exists"
    assert run("users", "ensure", "SERVER-USER")["changed"] is False
    assert run("users", "update", "SERVER-USER", "--set", "id=OTHER", status=2)["code"] == "usage"


@of_deployment
def test_users_go_into_a_file_and_come_back_with_their_ids(
    run: Run, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = run("users", "export")
    (tmp_path / "people.json").write_text(json.dumps(kept), encoding="utf-8")
    run("users", "delete", ANON, GOOGLE, OLD, "--yes")
    assert run("users", "import", "people.json")["added"] == 3
    assert rows("select id, email, google_id, account_type from users order by id") == [
        (GOOGLE, "ada@example.org", GOOGLE, "google"),
        (ANON, None, None, "anonymous"),
        (OLD, None, None, "anonymous"),
    ]


def test_statistics_count_chats_messages_and_attachments(run: Run) -> None:
    wanted = {"chats": 2, "messages": 4, "attachments": 2}
    assert run("users", "show", ANON)["statistics"] == wanted
    told = run("stats", "user", ANON)
    assert told["statistics"] == wanted
    assert (told["rows"]["chats"], told["rows"]["messages"]) == (2, 4)


def test_deleting_a_user_takes_chats_messages_and_attachments_along(run: Run, rows: Rows) -> None:
    plan = run("users", "delete", ANON, "--dry-run")["plan"]
    assert plan["rows"] == {"users": 1, "chats": 2, "messages": 4, "attachments": 2}
    assert run("users", "delete", ANON, "--yes")["rows"] == plan["rows"]
    left = "select (select count(*) from chats), (select count(*) from messages), (select count(*) from attachments)"
    assert rows(left) == [(1, 1, 0)]
    assert rows("pragma foreign_key_check") == []


@of_deployment
def test_tokens_of_accounts_are_shown_to_nobody(run: Run) -> None:
    (found,) = run("data", "rows", "accounts")["items"]
    assert {found[name] for name in ("access_token", "refresh_token", "id_token", "session_state")} == {"***"}
    run("data", "show", "accounts", "acc-1")
    assert run("data", "query", "select access_token from accounts", status=6)["code"] == "secret-asked"


# Preferences ---------------------------------------------------------------------------------------------------------


def test_preferences_are_settings_of_a_user(run: Run, rows: Rows) -> None:
    def stored() -> Any:
        return rows(f"select preferences from users where id = '{ANON}'")[0][0]

    user = ("--user", ANON)
    listed = run("settings", "list", *user)["items"]
    assert [(one["key"], one["value"], one["type"]) for one in listed] == [
        ("size", 14, "number"),
        ("theme", "dark", "string"),
    ]
    assert run("users", "show", ANON)["settings"] == {"size": 14, "theme": "dark"}
    run("settings", "set", "size", "16", *user)
    run("settings", "set", "language", "en", *user)
    run("settings", "set", "panels", '{"left": [1, 2.5, null]}', *user)
    assert stored() == '{"theme":"dark","size":16,"language":"en","panels":{"left":[1,2.5,null]}}'
    assert run("settings", "set", "size", "large", *user, status=2)["code"] == "value-invalid"
    run("settings", "reset", "panels", *user)
    assert json.loads(stored()) == {"theme": "dark", "size": 16, "language": "en"}
    assert run("settings", "get", "theme", *user)["value"] == "dark"
    assert run("settings", "get", "themes", *user, status=5)["code"] == "setting-missing"
    assert run("settings", "export", *user) == json.loads(stored())


def test_preferences_are_brought_to_what_a_file_says(run: Run, rows: Rows, tmp_path: Path) -> None:
    file = tmp_path / "wanted.json"
    file.write_text('{"theme": {"name": "light"}, "beta": true}', encoding="utf-8")
    done = run("settings", "apply", str(file), "--mode", "exact", "--user", ANON, "--yes")
    assert (done["added"], done["changed"], done["removed"]) == (["beta"], ["theme"], ["size"])
    assert rows(f"select preferences from users where id = '{ANON}'") == [
        ('{"theme":{"name":"light"},"beta":true}',)
    ]


def test_preferences_change_through_their_own_command_alone(run: Run) -> None:
    told = run("data", "set", "users", ANON, "preferences={}", status=2)
    assert "settings set --user" in told["message"] + told["hint"]
    assert run("data", "set", "users", ANON, "last_active=2025-10-21 00:00:00")["changed"]


@pytest.mark.parametrize("text", ["[1]", "{", '{"a":1,"a":2}', '"x"', "null"])
@of_document
def test_preferences_that_are_no_object_are_told_and_stay(run: Run, rows: Rows, text: str) -> None:
    rows(f"update users set preferences = '{text}' where id = '{OLD}'")
    assert run("settings", "list", "--user", OLD, status=2)["code"] == "value-invalid"
    assert run("settings", "set", "theme", "dark", "--user", OLD, status=2)["code"] == "value-invalid"
    assert run("users", "show", OLD)["settings"] == {"preferences": text}
    assert rows(f"select preferences from users where id = '{OLD}'") == [(text,)]


# Chats, messages, attachments ------------------------------------------------------------------------------------------


def test_a_chat_is_renamed_and_its_time_moves(run: Run, rows: Rows) -> None:
    run("data", "set", "chats", PYTHON, "title=Snakes")
    assert rows(f"select title, updated_at > '2026-' from chats where id = '{PYTHON}'") == [("Snakes", 1)]


def test_an_import_gives_a_user_no_second_active_chat(run: Run, rows: Rows, tmp_path: Path) -> None:
    def chats(*several: tuple[str, str, int]) -> str:
        lines = [
            json.dumps(dict(zip(("id", "user_id", "title", "is_active"), (one, who, "T", on), strict=True)))
            for one, who, on in several
        ]
        (tmp_path / "chats.jsonl").write_text("\n".join(lines))
        return str(tmp_path / "chats.jsonl")

    run("data", "set", "chats", GARDEN, "is_active=true")
    told = run("data", "import", "chats", chats(("new-1", ANON, 0), ("new-2", ANON, 1)), status=6)
    assert told["code"] == "constraint"
    assert told["message"].endswith(
        f"is_active of chats may be true in one row of one user_id, and would be in several: {ANON}"
    )
    assert rows("select id from chats where id like 'new-%'") == []
    run("users", "create", "SOMEBODY")
    run("data", "import", "chats", chats(("new-1", ANON, 0), ("new-2", "SOMEBODY", 1)))
    rows("update chats set is_active = 1 where id = 'new-1'")  # not by dbctl
    assert run("data", "import", "chats", chats(("new-3", "SOMEBODY", 0)))["added"] == 1


def test_one_chat_of_a_user_is_active(run: Run, rows: Rows) -> None:
    active = "select id, updated_at > '2026-' from chats where is_active = 1 order by id"
    plan = run("data", "set", "chats", GARDEN, "is_active=true", "--dry-run")["plan"]
    assert plan["steps"] == [
        "change is_active from '0' to '1'",
        "change is_active of 1 other row to 0",
    ]
    assert plan["rows"] == {"chats": 2}
    run("data", "set", "chats", GARDEN, "is_active=true")
    assert rows(active) == [(GARDEN, 0), (THEIRS, 0)]
    run("data", "set", "chats", GARDEN, "is_active=false")
    assert rows(active) == [(THEIRS, 0)]


def test_several_active_chats_are_found_and_settled(run: Run, rows: Rows) -> None:
    rows(f"update chats set is_active = 1 where id = '{GARDEN}'")
    (found,) = [
        one
        for one in run("integrity", "cross-check", status=None)["findings"]
        if "several active" in one["message"]
    ]
    assert ANON in found["message"]
    assert run("data", "set", "chats", GARDEN, "is_active=1")["changed"]
    assert rows(f"select id from chats where is_active = 1 and user_id = '{ANON}'") == [(GARDEN,)]


def test_a_chat_that_moves_to_another_user_does_not_stand_beside_an_active_one(run: Run, rows: Rows) -> None:
    run("data", "set", "chats", PYTHON, f"user_id={OLD}")
    assert rows("select id from chats where is_active = 1") == [(PYTHON,)]


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (("attachments", "att-1"), {"attachments": 1}),
        (("messages", PLANTS), {"messages": 1, "attachments": 2}),
        (("chats", GARDEN), {"chats": 1, "messages": 1, "attachments": 2}),
    ],
)
def test_what_is_deleted_takes_along_what_is_told(
    run: Run, words: tuple[str, ...], gone: dict[str, int]
) -> None:
    assert run("data", "delete", *words, "--dry-run")["plan"]["rows"] == gone
    assert run("data", "delete", *words, "--yes")["rows"] == gone


LISTED_NOT_STORED = "attachments that a message lists, and that have no row"
STORED_NOT_LISTED = "rows of attachments that the list of their message lacks"
NO_ARRAY = "messages whose list of attachments is no JSON array"


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
def test_the_list_of_attachments_of_a_message_is_compared_with_their_rows(
    run: Run, rows: Rows, listed: str, differing: dict[str, list[str]]
) -> None:
    rows(f"update messages set attachments = '{listed}' where id = '{PLANTS}'")
    messages = [one["message"] for one in run("integrity", "cross-check", status=None)["findings"]]
    found = {
        name: message.partition(f"{name} (")[2].removesuffix(")").split(", ")
        for name in (LISTED_NOT_STORED, STORED_NOT_LISTED, NO_ARRAY)
        for message in messages
        if name in message
    }
    assert found == differing


# The questions of the document -----------------------------------------------------------------------------------------


def test_latest_chats_of_a_user(run: Run) -> None:
    told = run("stats", "run", "recent-chats", "--set", f"user={ANON}")["items"]
    assert [(one["id"], one["messages"]) for one in told] == [(GARDEN, 1), (PYTHON, 3)]
    assert told[1]["last_message_at"] == "2025-10-19T10:00:05.000Z"
    one = run("stats", "run", "recent-chats", "--set", f"user={ANON}", "--set", "newest=1")["items"]
    assert [chat["id"] for chat in one] == [GARDEN]


def test_history_of_a_chat_keeps_the_order_of_what_was_written_in_one_second(run: Run) -> None:
    told = run("stats", "run", "history", "--set", f"chat={PYTHON}")["items"]
    assert [one["id"] for one in told] == [TOLD, ASKED, AGAIN]


def test_a_message_with_its_attachments(run: Run) -> None:
    told = run("stats", "run", "message", "--set", f"message={PLANTS}")["items"]
    assert [one["attachment_name"] for one in told] == ["a.png", "bed.jpg"]
    assert {"attachments", "metadata"} <= set(told[0])
    (alone,) = run("stats", "run", "message", "--set", f"message={ASKED}")["items"]
    assert (alone["content"], alone["attachment_id"]) == ("A language, 100% readable", None)


def test_statistics_of_a_user(run: Run) -> None:
    (told,) = run("stats", "run", "user-statistics", "--set", f"user={ANON}")["items"]
    assert [told[name] for name in ("chats", "messages", "user_messages", "ai_responses")] == [2, 4, 3, 1]


def test_messages_per_day(run: Run) -> None:
    days = {day["day"]: day for day in run("stats", "run", "messages-per-day")["items"]}
    assert [days["2025-10-20"][name] for name in ("messages", "user_messages", "ai_responses", "chats")] == [
        1,
        1,
        0,
        1,
    ]
    assert days["2025-10-19"]["messages"] == 3


def test_reports_answer_in_every_shape(run: Run) -> None:
    for one in run("stats", "reports")["items"]:
        run("stats", "run", one["name"], *(word for name in one["parameters"] if name != "newest" for word in ("--set", f"{name}=x")))  # fmt: skip


def test_messages_are_searched_as_text_the_newest_first(run: Run) -> None:
    def ids(*words: str) -> list[str]:
        return [one["id"] for one in run("search", "messages", *words)["items"]]

    assert ids("PYTHON") == [TOLD, THEIR]
    assert ids("python", "--filter", f"user={ANON}") == [TOLD]
    assert ids("100%") == [ASKED]
    assert ids("--filter", "attachments>0") == [PLANTS]
    assert ids("--filter", "chat=a garden") == [PLANTS]
    assert ids("--filter", "role=user") == [PLANTS, AGAIN, TOLD, THEIR]
    assert ids("--filter", "role=user", "--sort", "timestamp")[0] == THEIR
    assert [one["id"] for one in run("search", "chats")["items"]] == [GARDEN, PYTHON, THEIRS]


def test_a_found_message_has_every_column_that_the_document_asks_for(run: Run, rows: Rows) -> None:
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
    (chosen,) = run("search", "messages", "100%", "--columns", "id,chat_title")["items"]
    assert chosen == {"id": ASKED, "chat_title": titles[PYTHON]}


# Migrations ------------------------------------------------------------------------------------------------------------


UPGRADED = ["001_initial", "002_accounts", "003_users-who-sign-in"]
ERAS = {
    "document": (UPGRADED[:1], ["--variant", "upgraded"]),
    "halfway": (UPGRADED[:2], []),
    "deployed": (["001_users-accounts-chats"], []),
}


@pytest.mark.parametrize(
    ("chat", "known", "wanted"), [(chat, *told) for chat, told in ERAS.items()], indirect=["chat"]
)
def test_adopt_tells_the_time_of_a_deployment_by_its_schema_and_up_does_the_rest(
    run: Run, rows: Rows, known: list[str], wanted: list[str]
) -> None:
    before = rows("select * from messages") + rows("select * from chats")
    assert [one["name"] for one in run("migrate", "baseline")["items"]] == known
    done = [one["name"] for one in run("migrate", "up", *wanted)["items"]]
    assert [*known, *done] == (UPGRADED if known[0] == UPGRADED[0] else known)
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
def test_users_who_come_to_sign_in_are_guarded_as_the_app_guards_them(run: Run, rows: Rows) -> None:
    run("migrate", "baseline")
    run("migrate", "up", "--variant", "upgraded")
    assert rows("select distinct account_type from users") == [("anonymous",)]
    run("users", "update", ANON, "--email", "a@example.org")
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        rows(f"update users set email = 'a@example.org' where id = '{OLD}'")
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        rows(f"update users set account_type = 'admin' where id = '{OLD}'")


@pytest.mark.parametrize(
    ("chat", "told"), [("halfway", True), ("document", False), ("deployed", False)], indirect=["chat"]
)
def test_an_app_that_has_failed_half_way_is_told(run: Run, told: bool) -> None:
    found = run("integrity", "cross-check", status=4 if told else 0)["findings"]
    assert any("cannot start" in one["message"] for one in found) is told


@of_document
def test_the_last_step_goes_back(run: Run, rows: Rows) -> None:
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
