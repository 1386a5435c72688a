"""YAAI: every ability on the shape of its document and on that of a deployment, and on each index that these have."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from dbctl.cli.main import main
from tests.shapes import yaai

SHAPES = ("document", "deployed")
Run = Callable[..., Any]
of_document = pytest.mark.parametrize("place", ["document"], indirect=True)
of_deployment = pytest.mark.parametrize("place", ["deployed"], indirect=True)


class Place:
    """One deployment."""

    def __init__(self, shape: str, home: Path) -> None:
        self.shape, self.home = shape, home
        self.paths: dict[str, Path] = getattr(yaai, shape)(home)

    def rows(self, database: str, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.paths[database], isolation_level=None)) as connection:
            connection.execute("pragma foreign_keys = on")
            return connection.execute(sql).fetchall()


@pytest.fixture(params=SHAPES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(request.param, tmp_path / ".yaai")


@pytest.fixture
def run(place: Place, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on the deployment of the test; return its ``data``, or its error where another status is expected."""
    urls = [word for name, path in place.paths.items() for word in ("--url", f"{name}={path}")]

    def run(*words: str, status: int = 0, warnings: bool = False) -> Any:
        capsys.readouterr()
        found = main(["--profile", "yaai", *urls, "-o", "json", *words])
        shown = capsys.readouterr()
        assert yaai.KEY not in shown.out + shown.err
        assert yaai.PROXY not in shown.out + shown.err
        told = json.loads(shown.out)
        assert found == status, told
        if warnings:
            return told["warnings"]
        return told["data"] if told["data"] is not None else told["error"]

    return run


# The profile -------------------------------------------------------------------------------------------------------


def test_profile_and_databases_agree(run: Run) -> None:
    assert run("apps", "check")["findings"] == []


def test_nobody_signs_in_to_it_and_commands_of_users_say_so(run: Run) -> None:
    for words in ("users list", "roles list", "sessions list", "stats activity"):
        assert run(*words.split(), status=2)["code"] == "ability-missing"


def test_a_key_is_replaced_without_being_shown(
    place: Place, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = "sk-another-key-7788"

    def replace(*words: str, text: str = f"{new}\n", status: int = 0) -> Any:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        told = run("data", "set", "credentials", *words, "--db", "app", status=status)
        assert new not in json.dumps(told)
        return told

    def stored() -> list[tuple[Any, ...]]:
        return place.rows("app", "select api_key_encrypted from credentials where id = 'anthropic'")

    secret = ("--secret", "api_key_encrypted")
    replace("anthropic", *secret, "--dry-run")
    assert stored() == [(yaai.KEY,)]
    done = replace("anthropic", *secret)
    assert (done["changed"], done["after"]["api_key_encrypted"]) == (True, "***")
    assert stored() == [(new,)]
    assert replace("anthropic", *secret)["changed"] is False
    assert replace("anthropic", *secret, text="", status=2)["code"] == "value-invalid"
    assert replace("nosuch", *secret, status=5)["code"] == "row-absent"
    assert replace("anthropic", "--secret", "base_url", status=2)["code"] == "usage"
    assert replace("--filter", "id=anthropic", *secret, status=2)["code"] == "usage"
    assert replace("anthropic", *secret, "--null", "api_key_encrypted", status=2)["code"] == "usage"
    assert stored() == [(new,)]


@of_deployment
def test_a_database_that_was_opened_once_and_never_used_is_none_of_the_app(place: Place, run: Run) -> None:
    place.paths["code"] = place.home / "db/code.sqlite"
    with_code = ["--url", f"code={place.paths['code']}"]
    assert "keeps nothing there" in run(*with_code, "stats", "run", "sessions", status=2)["hint"]


def test_init_finds_the_databases_that_are_used_and_where_the_apps_own_files_are(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., dict[str, Any]]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(tmp_path))
    used = {name: f"../.yaai/db/{name}.sqlite" for name in place.paths}
    for name, words in (("home", []), ("above", [str(tmp_path)]), ("itself", [str(place.home)])):
        done = answer("--config", f"{name}.toml", "init", "yaai", *words)["data"]
        assert done["databases"] == used
        assert 'directory = "../.yaai"' in (elsewhere / f"{name}.toml").read_text()
    nearer = getattr(yaai, place.shape)(elsewhere / "copy")
    done = answer("--config", "here.toml", "init", "yaai")["data"]
    assert done["databases"] == {name: f"copy/db/{name}.sqlite" for name in nearer}


# Searching ---------------------------------------------------------------------------------------------------------

#: How an app that knew better would keep the index: no command that such a table does not take.
HEALTHY = """
drop trigger messages_fts_delete; drop trigger messages_fts_update;
CREATE TRIGGER messages_fts_delete AFTER DELETE ON messages BEGIN
  DELETE FROM messages_fts WHERE message_id = OLD.id;
END;
CREATE TRIGGER messages_fts_update AFTER UPDATE OF content ON messages BEGIN
  DELETE FROM messages_fts WHERE message_id = OLD.id;
  INSERT INTO messages_fts(content, chat_id, message_id) VALUES (NEW.content, NEW.chat_id, NEW.id);
END;
"""
NONE = "drop trigger messages_fts_insert; drop trigger messages_fts_delete; drop trigger messages_fts_update; drop table messages_fts;"
INDEXES = {"healthy": HEALTHY, "deployed": "", "document": "", "none": NONE, "repaired": ""}


@pytest.fixture(params=INDEXES)
def index(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def indexed(index: str, tmp_path: Path) -> Place:
    place = Place("document" if index == "document" else "deployed", tmp_path / ".yaai")
    with closing(sqlite3.connect(place.paths["chat"], isolation_level=None)) as connection:
        connection.executescript(INDEXES[index])
    return place


@pytest.fixture
def search(indexed: Place, index: str, capsys: pytest.CaptureFixture[str]) -> Run:
    def search(*words: str, status: int = 0) -> Any:
        capsys.readouterr()
        url = f"chat={indexed.paths['chat']}"
        found = main(["--profile", "yaai", "--url", url, "-o", "json", "search", *words])
        told = json.loads(capsys.readouterr().out)
        assert found == status, told
        return told

    if index == "repaired":
        search("index", "repair")
    return search


def ids(told: Any) -> set[str]:
    return {one["id"] for one in told["data"]["items"]}


#: What is asked for, and the messages that it means.
ASKED = [
    (["plant*"], {yaai.TOLD, yaai.AGAIN, yaai.REPLY}),
    (["PLANT*", "--filter", f"chat={yaai.GARDEN}"], {yaai.TOLD, yaai.AGAIN}),
    (["plant*", "--filter", "chat=The parser"], {yaai.REPLY}),
    (["plant*", "--filter", "role=assistant", "--filter", "model=haiku"], {yaai.AGAIN}),
    (["carrots", "salad"], {yaai.TOLD}),
    (["foo-bar"], {yaai.CODE}),
    (["NEAR"], {yaai.CODE}),
    (["NEAR(x)"], {yaai.CODE}),
    (["*.py"], {yaai.CODE}),
    (["bar:"], {yaai.CODE}),
    (["🥕"], {yaai.TOLD}),
    (['"'], {yaai.TOLD}),
    (['"salad",'], {yaai.TOLD}),
    (["--filter", 'text:and "salad"'], {yaai.TOLD}),
    (["plant*", "AND"], {yaai.TOLD}),
    (["nothing like it"], set()),
    (["--filter", "liked=yes"], {yaai.TOLD}),
    (["--filter", "since=2026-03-02"], {yaai.CODE, yaai.REPLY}),
    (["--filter", "until=2026-03-01", "--filter", "branch=later"], {yaai.AGAIN}),
    (["--filter", "tools>0"], {yaai.TOLD, yaai.REPLY}),
]


def test_words_are_found_whatever_index_there_is(search: Run) -> None:
    for words, found in ASKED:
        assert ids(search("messages", *words)) == found, words


def test_words_stand_between_marks_whatever_index_there_is(search: Run, index: str) -> None:
    told = search("messages", "plant*", "--mark", "<b>", "</b>")
    shown = {one["id"]: one["snippet"] for one in told["data"]["items"]}
    assert all("<b>" in text and "</b>" in text for text in shown.values())
    assert shown[yaai.REPLY] == "<b>Plant</b> a breakpoint at the colon."
    assert "<b>" not in str(search("messages", "plant")["data"])
    if index in ("repaired", "none", "document"):
        assert '"type"' not in shown[yaai.TOLD], "the texts of its blocks, not their JSON"


def test_an_item_has_the_title_of_its_chat(search: Run) -> None:
    told = search("messages", "plant")["data"]["items"]
    assert [item["chat_title"] for item in told] == ["The parser"]
    assert list(search("messages", "--columns", "id,chat_title", "--limit", "1")["data"]["items"][0]) == [
        "id",
        "chat_title",
    ]


#: What is told of each index: how it stands, whether rows are ranked, and part of what is told beside them.
STANDING = {
    "healthy": ("sound", True, None),
    "repaired": ("sound", True, None),
    "deployed": ("broken", True, "for finding alone"),
    "document": ("broken", False, "every row was read"),
    "none": ("missing", False, "every row was read"),
}


def test_an_index_is_used_where_it_finds_every_row_and_what_is_wrong_is_told(search: Run, index: str) -> None:
    state, ranked, remark = STANDING[index]
    told = search("messages", "plant")
    assert search("index", "status")["data"]["items"][0]["state"] == state
    assert [one["score"] is not None for one in told["data"]["items"]] == [ranked]
    assert [remark in one for one in told["warnings"]] == ([True] if remark else [])


@pytest.mark.parametrize("index", ["deployed"])
def test_an_index_that_may_hold_old_words_is_not_used(search: Run, indexed: Place, index: str) -> None:
    indexed.rows("chat", "drop trigger messages_fts_update")
    indexed.rows("chat", f"update messages set content = 'A pond' where id = '{yaai.TOLD}'")
    assert ids(search("messages", "pond*")) == {yaai.TOLD}
    assert ids(search("messages", "carrots")) == set()


@pytest.mark.parametrize("index", ["deployed"])
def test_an_index_that_lacks_rows_is_not_used(search: Run, indexed: Place, index: str) -> None:
    indexed.rows("chat", "drop trigger messages_fts_insert")
    indexed.rows(
        "chat",
        f"insert into messages (id, chat_id, role, content) values ('n1', '{yaai.PARSER}', 'user', 'plant it')",
    )
    assert "n1" in ids(search("messages", "plant*"))


@pytest.mark.parametrize("index", ["healthy"])
def test_an_index_that_is_damaged_inside_is_told_and_made_anew(
    search: Run, indexed: Place, index: str
) -> None:
    """What an index is kept in can be damaged though its definition and its rows are sound."""
    leaf = "(select max(id) from messages_fts_data)"
    indexed.rows("chat", f"update messages_fts_data set block = zeroblob(length(block)) where id = {leaf}")
    told = search("index", "check", status=4)["data"]["findings"]
    assert [(one["code"], one["hint"]) for one in told] == [
        ("text-index", "dbctl search index repair makes it anew.")
    ]
    steps = search("index", "repair", "--dry-run")["data"]["plan"]["steps"]
    assert steps[0].startswith("messages_fts is of no use: ")
    assert search("index", "repair")["data"]["changed"]
    assert search("index", "check")["data"]["findings"] == []
    assert ids(search("messages", "plant*")) == {yaai.TOLD, yaai.AGAIN, yaai.REPLY}


def test_a_repaired_index_lets_the_app_write_again_and_follows_it(
    search: Run, indexed: Place, index: str
) -> None:
    content = f"update messages set content = 'All about ponds' where id = '{yaai.TOLD}'"
    gone = f"delete from chats where id = '{yaai.PARSER}'"
    if index in ("deployed", "document"):
        with pytest.raises(sqlite3.Error):
            indexed.rows("chat", content if index == "deployed" else "select message_id from messages_fts")
    search("index", "repair")
    indexed.rows("chat", content)
    indexed.rows("chat", gone)
    indexed.rows(
        "chat",
        f"""insert into messages (id, chat_id, role, content) values ('n1', '{yaai.GARDEN}', 'user', '[{{"type":"text","text":"A pond"}}]')""",
    )
    assert ids(search("messages", "pond*")) == {yaai.TOLD, "n1"}
    assert ids(search("messages", "plant*")) == {yaai.AGAIN}
    assert search("index", "check")["data"]["findings"] == []
    apps_own = "select message_id, highlight(messages_fts, 0, '<', '>') from messages_fts where messages_fts match 'pond' and chat_id = '{}' order by rank"
    found = dict(indexed.rows("chat", apps_own.format(yaai.GARDEN)))
    assert set(found) == {yaai.TOLD, "n1"}, "the question of the app itself"
    assert found["n1"] == ('[{"type":"text","text":"A <pond>"}]' if index == "healthy" else "A <pond>")


@pytest.mark.parametrize("index", ["repaired"])
def test_the_words_of_json_itself_find_nothing(search: Run, index: str) -> None:
    for word in ("type", "tool_use"):
        assert ids(search("messages", word)) == set()


@pytest.mark.parametrize(
    "content",
    [
        "[1, 2, 3]",
        "[",
        '[{"type":"image"}]',
        '["plain", {"text":"pond"}]',
        "{}",
        "null",
        '[{"text":null}]',
        "",
    ],
)
@pytest.mark.parametrize("index", ["repaired"])
def test_content_of_any_form_is_taken(search: Run, indexed: Place, index: str, content: str) -> None:
    with closing(sqlite3.connect(indexed.paths["chat"], isolation_level=None)) as connection:
        connection.execute("update messages set content = ? where id = ?", [content, yaai.ASKED])
    assert search("index", "check")["data"]["findings"] == []
    search("messages", "pond")


def test_the_triggers_keep_the_names_that_the_app_knows(search: Run, indexed: Place, index: str) -> None:
    search("index", "repair")
    names = {
        row[0]
        for row in indexed.rows(
            "chat", "select name from sqlite_master where type = 'trigger' and sql like '%messages_fts%'"
        )
    }
    document = {"messages_ai", "messages_au", "messages_ad"}
    deployed = {"messages_fts_insert", "messages_fts_update", "messages_fts_delete"}
    assert names == (document if index == "document" else deployed)


def test_an_index_is_dropped_and_built(search: Run) -> None:
    search("index", "drop")
    assert search("index", "status")["data"]["items"][0]["state"] == "missing"
    search("index", "build")
    assert search("index", "check")["data"]["findings"] == []


@pytest.mark.parametrize("index", ["none"])
@pytest.mark.parametrize("what", ["build", "repair", "drop"])
@pytest.mark.parametrize("seen", [(), ("--dry-run",)])
def test_a_table_of_somebody_else_under_the_name_of_the_index_stays_and_nothing_promises_otherwise(
    search: Run, indexed: Place, index: str, what: str, seen: tuple[str, ...]
) -> None:
    indexed.rows("chat", "create table messages_fts (notes)")
    indexed.rows("chat", "insert into messages_fts values ('mine')")
    assert search("index", what, *seen, status=6)["error"]["code"] == "text-index-foreign"
    assert indexed.rows("chat", "select * from messages_fts") == [("mine",)]
    assert "repair" not in str(search("index", "check", status=4)) + str(search("messages", "plant"))


def test_chats_are_found_by_their_title(run: Run) -> None:
    (found,) = run("search", "chats", "garden")["items"]
    assert found["id"] == yaai.GARDEN
    assert run("search", "chats", "--filter", "messages>2", "--count") == {"total": 1}
    assert run("search", "chats", "--filter", "branches=1", "--count") == {"total": 1}


def test_one_message_is_shown_with_all_that_belongs_to_it(run: Run) -> None:
    whole = run("search", "messages", "--id", yaai.ASKED)
    assert [one["title"] for one in whole["chat"]] == ["A garden"]
    assert [one["name"] for one in whole["attachments"]] == ["bed.png"]
    assert [one["id"] for one in whole["answers"]] == [yaai.TOLD, yaai.AGAIN]


@of_document
def test_artifacts_are_found(run: Run) -> None:
    assert [one["id"] for one in run("search", "artifacts", "row")["items"]] == ["g1"]
    assert [one["id"] for one in run("search", "artifacts", "--filter", "size>1000")["items"]] == ["g2"]
    assert run("search", "artifacts", "--filter", f"chat={yaai.GARDEN}", "--count") == {"total": 1}


@of_deployment
def test_a_deployment_without_artifacts_says_so(run: Run) -> None:
    assert run("search", "artifacts", status=2)["code"] == "schema-lacks"


# Settings and secrets ------------------------------------------------------------------------------------------------


def test_settings_are_text_by_their_key(run: Run, place: Place) -> None:
    assert {one["key"]: one["value"] for one in run("settings", "list")["items"]} == {
        "theme": "dark",
        "fontSize": "14",
    }
    run("settings", "set", "theme", "light")
    assert place.rows("app", "select value from settings where key = 'theme'") == [("light",)]
    run("settings", "set", "accentColor", "#00ff00")
    assert run("settings", "get", "accentColor")["value"] == "#00ff00"
    run("settings", "reset", "accentColor")
    assert run("settings", "get", "accentColor", status=5)["code"] == "setting-missing"


def test_a_key_of_a_provider_is_shown_to_who_asks_for_secrets_alone(
    run: Run, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = run("data", "rows", "credentials", "--db", "app")["items"]
    assert {one["api_key_encrypted"] for one in rows} == {"***"}
    url = f"app={place.paths['app']}"
    main(
        [
            "--profile",
            "yaai",
            "--url",
            url,
            "data",
            "show",
            "credentials",
            "anthropic",
            "--db",
            "app",
            "--secrets",
        ]
    )
    assert yaai.KEY in capsys.readouterr().out


# Checks --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def crossed(run: Run) -> Callable[[], list[Any]]:
    def crossed(status: int = 0) -> list[Any]:
        findings: list[Any] = run("integrity", "cross-check", status=status)["findings"]
        return findings

    return crossed


def told(findings: list[Any]) -> dict[str, str]:
    return {one["message"].partition(" (")[0].partition(": ")[2]: one["severity"] for one in findings}


def test_keys_in_clear_text_and_tools_that_never_ended_are_told(crossed: Callable[[], list[Any]]) -> None:
    findings = crossed()
    clear = [one["message"] for one in findings if "keys of providers" in one["message"]]
    assert clear == [
        "1 row: keys of providers that are stored as they are, whatever their column is called (anthropic)"
    ], "the other one is encrypted"
    assert told(findings)["tools that have been at work for more than an hour"] == "warning"


@of_deployment
def test_times_in_two_forms_passwords_and_lost_research_are_told(
    place: Place, crossed: Callable[[], list[Any]]
) -> None:
    place.rows(
        "chat",
        """insert into research_sessions (id, query, depth_profile, config, stats, status, updated_at) values
        ('r1', 'x', 'light', '{}', '{}', 'reading', '2026-03-01 10:00:00'),
        ('r2', 'x', 'light', '{}', '{}', 'completed', '2026-03-01 10:00:00'),
        ('r3', 'x', 'light', '{}', '{}', 'reading', strftime('%Y-%m-%d %H:%M:%S', 'now'))""",
    )
    findings = crossed()
    assert {"passwords of proxies that are stored as they are", "chats whose times are in two forms"} <= set(
        told(findings)
    )
    (research,) = [one["message"] for one in findings if "research" in one["message"]]
    assert research.endswith("(r1)")


@of_deployment
def test_two_active_proxies_are_an_error(place: Place, run: Run) -> None:
    place.rows("app", "drop index idx_proxy_active")
    place.rows(
        "app",
        "insert into proxy_configs (id, nickname, type, hostname, port, is_active, created_at, updated_at) values ('x2', 'home', 'http', 'h', 1, 1, '', '')",
    )
    found = run("integrity", "cross-check", status=4)["findings"]
    assert told(found)["proxies beside another one that are active, too"] == "error"


@of_deployment
def test_a_deployment_that_never_got_its_drafts_is_told(place: Place, run: Run) -> None:
    assert "a table that the app relies on was never made" not in told(
        run("integrity", "cross-check")["findings"]
    )
    place.rows("app", "drop table drafts")
    found = run("integrity", "cross-check", status=4)["findings"]
    assert told(found)["a table that the app relies on was never made"] == "error"


@of_document
def test_messages_that_answer_nothing_or_stand_on_no_branch_are_told(
    place: Place, crossed: Callable[[], list[Any]], run: Run
) -> None:
    run("search", "index", "repair")
    place.rows("chat", f"update messages set parent_id = 'gone' where id = '{yaai.REPLY}'")
    place.rows("chat", f"update messages set branch_id = 'gone' where id = '{yaai.TOLD}'")
    assert {"messages that answer one which is gone", "messages on a branch that is gone"} <= set(
        told(crossed())
    )


def test_rows_that_name_a_chat_which_is_gone_are_told_over_all_databases(
    place: Place, run: Run, crossed: Callable[[], list[Any]]
) -> None:
    run("search", "index", "repair")
    assert "not-in-other" not in {one["code"] for one in crossed()}
    place.rows("chat", "delete from chats")
    found = {one["message"].partition(":")[0] for one in crossed() if one["code"] == "not-in-other"}
    assert found == (
        {"chats of artifacts", "chats of sessions"}
        if place.shape == "document"
        else {"chats in memory", "messages in memory", "messages that memory thinks important"}
    )


def test_every_database_is_checked_and_measured_in_one_answer(run: Run, place: Place) -> None:
    run("search", "index", "repair")
    checked = run("integrity", "check")
    codes = [finding["code"] for finding in checked["findings"]]
    assert (checked["checked"], codes) == (len(place.paths), ["times-mixed"])  # the app itself mixes them
    items = run("stats", "overview")["items"]
    assert [one["target"].partition("/")[2] for one in items] == list(place.paths)
    assert all(one["page_count"] * one["page_size"] == one["bytes"] for one in items)
    assert all({"freelist_pages", "wal_pages"} <= one.keys() for one in items)
    tables = {one["target"].partition("/")[2] for one in run("stats", "tables")["items"]}
    assert tables == set(place.paths)


def test_doctor_tells_of_a_file_of_keys_that_others_may_read_and_of_the_index(
    answer: Callable[..., dict[str, Any]],
) -> None:
    with TemporaryDirectory() as folder:  # what pytest makes is closed to others
        Path(folder).chmod(0o755)
        paths = yaai.deployed(Path(folder))
        for path in (paths["app"].parent, paths["app"]):
            path.chmod(0o755)
        urls = [word for name, path in paths.items() for word in ("--url", f"{name}={path}")]
        findings = answer("--profile", "yaai", *urls, "doctor")["data"]["findings"]
    found = {one["code"]: one["message"] for one in findings}
    assert found["readable-by-all"].endswith("it holds keys or passwords")
    assert "good for finding alone" in found["text-index-broken"]


# Cleanup, reports, rows --------------------------------------------------------------------------------------------


@of_deployment
def test_drafts_go_when_somebody_asks_for_it_by_name(place: Place, run: Run) -> None:
    run("sessions", "cleanup")
    assert place.rows("app", "select count(*) from drafts") == [(2,)]
    run("sessions", "cleanup", "--rule", "drafts", "--older-than", "30d")
    assert place.rows("app", "select project_id from drafts") == [(yaai.PARSER,)]


#: Reports with their first row.
REPORTED: dict[str, dict[str, object]] = {
    "chats": {"id": yaai.PARSER, "messages": 2, "tokens": 12},
    "models": {"model": "sonnet", "messages": 2, "tokens": 52, "average_milliseconds": 550.0},
    "tools": {"tool": "shell", "status": "running", "calls": 1},
    "stuck": {"id": "f2", "tool": "shell", "chat": yaai.PARSER},
    "providers": {"id": "anthropic"},
    "sessions": {"id": yaai.SESSION, "entries": 2, "snapshots": 1},
    "jobs": {"status": "completed", "jobs": 1, "images": 1},
    "pending-jobs": {"id": "j2", "prompt": "A parser at work"},
    "popular-prompts": {"id": "p1", "uses": 3},
    "artifacts": {"type": "code", "artifacts": 1, "bytes": 9000},
}


@of_document
def test_every_report_answers(run: Run) -> None:
    for name, expected in REPORTED.items():
        first = run("stats", "run", name)["items"][0]
        assert {word: first[word] for word in expected} == expected, name


@of_deployment
def test_reports_answer_on_a_deployment_too(run: Run) -> None:
    assert run("stats", "run", "research")["items"] == []
    for name in ("models", "tools", "stuck", "providers"):
        first = run("stats", "run", name)["items"][0]
        assert {word: first[word] for word in REPORTED[name]} == REPORTED[name], name


def test_the_messages_of_one_chat_come_in_the_order_of_their_times_whatever_form_these_have(run: Run) -> None:
    found = run("stats", "run", "chat", "--set", f"chat={yaai.GARDEN}")["items"]
    assert [one["id"] for one in found] == [yaai.ASKED, yaai.TOLD, yaai.AGAIN]


def test_a_report_about_one_thing_wants_to_know_which(run: Run) -> None:
    told = run("stats", "run", "chat", status=2)
    assert told["message"] == "chat wants --set chat=…"


def test_a_tool_that_has_ended_does_not_go_on(run: Run) -> None:
    run("data", "set", "tool_calls", "f2", "status=error")
    assert "has ended" in run("data", "set", "tool_calls", "f2", "status=running", status=6)["hint"]


# Backups -----------------------------------------------------------------------------------------------------------


def test_a_backup_takes_every_database_and_the_files_beside_them_and_brings_them_back(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., dict[str, Any]]
) -> None:
    monkeypatch.chdir(tmp_path)
    yaai.files(place.home)
    answer("init", "yaai", ".yaai")
    made = answer("backup", "create")["data"]
    stamp = made["id"]
    iso = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[9:11]}-{stamp[11:13]}-{stamp[13:]}-000Z"
    names = {one["database"]: one["file"] for one in made["members"]}
    assert names.pop("") == f"files_{stamp}.tar.gz"
    assert names == {name: f"{name}_{iso}.sqlite.gz" for name in place.paths}
    files = next(one for one in made["members"] if not one["database"])
    assert files["facts"] == {"files": "6"}, "what is temporary stays out"
    before = place.rows("chat", "select * from messages order by id")
    answer("search", "index", "repair")
    place.rows("chat", "delete from chats")
    answer("restore", "apply", "latest", "--yes")
    assert place.rows("chat", "select * from messages order by id") == before
    answer("restore", "undo", "--yes")
    assert place.rows("chat", "select count(*) from messages") == [(0,)]


def test_one_database_is_backed_up_and_restored_by_itself(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., dict[str, Any]]
) -> None:
    monkeypatch.chdir(tmp_path)
    answer("init", "yaai", ".yaai")
    made = answer("backup", "create", "--db", "app")["data"]
    assert [one["database"] for one in made["members"]] == ["app"]
    place.rows("app", "delete from settings")
    answer("restore", "apply", "latest", "--db", "app", "--yes")
    assert place.rows("app", "select count(*) from settings") == [(2,)]


@of_deployment
def test_a_vacuum_keeps_the_index_of_a_deployment(run: Run) -> None:
    run("maintain", "vacuum")
    assert len(run("search", "messages", "plant*")["items"]) == 3


# Migrations --------------------------------------------------------------------------------------------------------

FILES = {
    "chat": ["001_initial", "002_add_branches", "003_add_fts"],
    "code": ["001_initial", "002_add_snapshots"],
    "imagegen": ["001_initial", "002_add_prompts"],
    "app": ["001_initial", "002_add_artifacts"],
}


@pytest.fixture
def empty(tmp_path: Path) -> list[str]:
    """Four places where nothing is yet, as options."""
    return [
        "--profile",
        "yaai",
        *(word for name in FILES for word in ("--url", f"{name}={tmp_path / name}.sqlite")),
    ]


def test_four_empty_places_become_the_databases_of_the_document(
    empty: list[str], answer: Callable[..., dict[str, Any]]
) -> None:
    answer(*empty, "migrate", "up")
    items = answer(*empty, "migrate", "status", "--check")["data"]["items"]
    assert [(one["database"], one["name"]) for one in items] == [
        (name, file) for name, files in FILES.items() for file in files
    ]
    for words in ("apps check", "migrate verify", "migrate drift", "integrity check", "search index check"):
        assert answer(*empty, *words.split())["data"]["findings"] == [], words


def test_the_ledger_is_the_one_that_the_app_keeps(
    empty: list[str], tmp_path: Path, answer: Callable[..., dict[str, Any]]
) -> None:
    answer(*empty, "migrate", "up")
    with closing(sqlite3.connect(tmp_path / "chat.sqlite")) as connection:
        rows = connection.execute("select version, name, typeof(version) from _migrations").fetchall()
    assert rows == [(1, "initial", "integer"), (2, "add_branches", "integer"), (3, "add_fts", "integer")]


def test_what_is_taken_back_and_applied_again_is_the_same_and_the_ledger_stays(tmp_path: Path) -> None:
    for database, names in FILES.items():
        with closing(sqlite3.connect(tmp_path / database, isolation_level=None)) as connection:
            connection.executescript(yaai.LEDGER)
            schemas = []
            for name in [*names, None, *names]:
                if name:
                    connection.executescript(yaai.up(f"{database}/{name}"))
                else:
                    for one in reversed(names):
                        connection.executescript(yaai.down(f"{database}/{one}"))
                schemas.append(
                    connection.execute("select type, name, sql from sqlite_master order by 1, 2").fetchall()
                )
            emptied, again = schemas[len(names)], schemas[len(names) + 1 :]
            assert [one[1] for one in emptied] == ["_migrations"]
            assert again == schemas[: len(names)]


def test_messages_that_are_there_are_found_once_the_index_is_made(tmp_path: Path) -> None:
    first = "".join(yaai.up(f"chat/{name}") for name in FILES["chat"][:2])
    path = yaai.made(tmp_path / "chat.sqlite", first, yaai.CHAT)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(yaai.up("chat/003_add_fts"))
        found = connection.execute(
            "select message_id from messages_fts where messages_fts match 'plant'"
        ).fetchall()
    assert {one for (one,) in found} == {yaai.TOLD, yaai.AGAIN, yaai.REPLY}


@of_document
def test_a_database_of_the_document_differs_from_its_migrations_in_the_index_until_it_is_repaired(
    run: Run,
) -> None:
    differs = {one["code"] for one in run("migrate", "drift", "--db", "chat", status=4)["findings"]}
    assert {"table-differs", "trigger-differs"} <= differs
    run("search", "index", "repair")
    assert run("migrate", "drift", "--db", "chat")["findings"] == []


@of_deployment
def test_a_repair_of_the_index_is_no_drift_and_another_difference_is(run: Run, place: Place) -> None:
    drift = ("migrate", "drift", "--db", "chat")
    assert run(*drift)["findings"] == []
    refused = run("data", "set", "messages", yaai.TOLD, "content=ponds", status=1)
    assert (refused["code"], "search index repair messages" in refused["hint"]) == ("query-failed", True)
    assert run("search", "index", "repair", "messages")["changed"]
    assert run(*drift)["findings"] == []
    place.rows("chat", "drop trigger chat_updated_on_message")
    assert [finding["code"] for finding in run(*drift, status=4)["findings"]] == ["trigger-missing"]


@of_deployment
def test_migrations_of_the_document_are_never_run_on_a_deployment(run: Run, place: Place) -> None:
    before = place.rows("chat", "select name, sql from sqlite_master order by name")
    assert run("migrate", "up")["items"] == []
    refused = run("migrate", "up", "--db", "chat", "--variant", "document", status=6)
    assert refused["code"] == "migration-shape-other"
    assert place.rows("chat", "select name, sql from sqlite_master order by name") == before


@of_deployment
def test_a_deployment_that_ran_the_first_migration_alone_goes_on_with_its_own(place: Place, run: Run) -> None:
    names = yaai.DEPLOYED["chat"]
    script = yaai.up(f"chat/{names[0]}", "deployed") + yaai.recorded(names[:1])
    place.paths["chat"].unlink()
    yaai.made(place.paths["chat"], script)
    run("migrate", "up", "--db", "chat")
    states = {item["name"]: item["state"] for item in run("migrate", "status", "--db", "chat")["items"]}
    assert states == dict.fromkeys(names, "applied")
    assert run("migrate", "drift", "--db", "chat")["findings"] == []


@of_deployment
@pytest.mark.parametrize("recorded", [True, False], ids=["ledger", "no ledger"])
@pytest.mark.parametrize("ran", ["006_drafts", "006_extended_model_types"])
@pytest.mark.parametrize("completed", [True, False], ids=["columns added", "columns lacking"])
def test_each_history_of_the_number_that_two_migrations_share_is_current(
    place: Place, run: Run, ran: str, *, completed: bool, recorded: bool
) -> None:
    names = [ran if name.startswith("006") else name for name in yaai.DEPLOYED["app"]]
    added = yaai.up("app/006_extended_model_types", "deployed") if completed and "drafts" in ran else ""
    script = "".join(yaai.up(f"app/{name}", "deployed") for name in names) + added
    place.paths["app"].unlink()
    yaai.made(place.paths["app"], script + (yaai.recorded(names) if recorded else ""))
    for words in ("baseline", "status --check", "verify", "drift", "up"):
        told = run("migrate", *words.split(), "--db", "app")
        assert told.get("findings", []) == [], words
    states = {item["name"]: item["state"] for item in run("migrate", "status", "--db", "app")["items"]}
    assert [name for name, state in states.items() if state == "applied"] == names


@of_deployment
@pytest.mark.parametrize("ran", ["drafts", "extended_model_types"])
def test_two_files_of_one_number_stand_for_each_other_as_in_the_app(
    place: Place, run: Run, tmp_path: Path, ran: str
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    names = [
        f"{version:03}_{name}" for version, name in place.rows("app", "select version, name from _migrations")
    ]
    for name in {*names, "006_drafts", "006_extended_model_types"}:
        (own / f"{name}.sql").write_text("-- Up\nselect 1;\n")
    place.rows("app", f"update _migrations set name = '{ran}' where version = 6")
    (own / "008_next.sql").write_text("-- Up\ncreate table next (x);\n")
    run("migrate", "up", "--db", "app", "--migrations", str(own))
    told = run("migrate", "status", "--check", "--db", "app", "--migrations", str(own))
    states = {one["name"]: one["state"] for one in told["items"]}
    other = {"drafts": "extended_model_types", "extended_model_types": "drafts"}[ran]
    assert (states[f"006_{ran}"], states[f"006_{other}"], states["008_next"]) == (
        "applied",
        "baseline",
        "applied",
    )


@of_deployment
def test_a_deployment_goes_on_with_the_migrations_of_its_app(place: Place, run: Run, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name in (
        "001_initial",
        "002_response_groups",
        "003_project_metadata",
        "004_research",
        "005_claude_projects",
    ):
        (own / f"{name}.sql").write_text("-- Up\nselect 1;\n\n-- Down\ndrop table _migrations;\n")
    (own / "006_notes.sql").write_text(
        "-- Up\ncreate table notes (id text primary key);\n\n-- Down\ndrop table notes;\n"
    )
    run("migrate", "up", "--db", "chat", "--migrations", str(own))
    assert place.rows("chat", "select version, name from _migrations order by version desc limit 1") == [
        (6, "notes")
    ]
    assert place.rows("chat", "select count(*) from notes") == [(0,)]
