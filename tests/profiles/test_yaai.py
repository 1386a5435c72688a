"""YAAI: every feature on the documented and the deployed variant, with each of their full-text indexes."""

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

VARIANTS = ("document", "deployed")
Run = Callable[..., Any]
of_document = pytest.mark.parametrize("deployment", ["document"], indirect=True)
of_deployment = pytest.mark.parametrize("deployment", ["deployed"], indirect=True)


class Deployment:
    """A deployment of YAAI."""

    def __init__(self, variant: str, home: Path) -> None:
        self.variant, self.home = variant, home
        self.paths: dict[str, Path] = getattr(yaai, variant)(home)

    def rows(self, database: str, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.paths[database], isolation_level=None)) as connection:
            connection.execute("pragma foreign_keys = on")
            return connection.execute(sql).fetchall()


@pytest.fixture(params=VARIANTS)
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Deployment:
    return Deployment(request.param, tmp_path / ".yaai")


@pytest.fixture
def run(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command on the deployment and returns its data, or its error if the expected status is not 0."""
    urls = [word for name, path in deployment.paths.items() for word in ("--url", f"{name}={path}")]

    def run(*words: str, status: int = 0, warnings: bool = False) -> Any:
        capsys.readouterr()
        exit_status = main(["--profile", "yaai", *urls, "-o", "json", *words])
        shown = capsys.readouterr()
        assert yaai.KEY not in shown.out + shown.err
        assert yaai.PROXY not in shown.out + shown.err
        output = json.loads(shown.out)
        assert exit_status == status, output
        if warnings:
            return output["warnings"]
        return output["data"] if output["data"] is not None else output["error"]

    return run


# The profile -------------------------------------------------------------------------------------------------------


def test_profile_and_databases_agree(run: Run) -> None:
    assert run("apps", "check")["findings"] == []


def test_app_without_any_file_is_configured_and_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., dict[str, Any]]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    assert answer("init", "yaai", status=5)["error"]["code"] == "database-not-found"
    plan = answer("init", "yaai", "--new", "--dry-run")["data"]["plan"]
    assert any("create the directory" in step for step in plan["steps"])
    assert not list((tmp_path / "home").iterdir())
    result = answer("init", "yaai", "--new")["data"]
    assert set(result["databases"]) == {"chat", "app"}
    applied = answer("migrate", "up")["data"]["items"]
    assert {item["database"] for item in applied} == {"chat", "app"}
    files = sorted(path.name for path in (tmp_path / "home/.yaai/db").glob("*.sqlite"))
    assert files == ["app.sqlite", "chat.sqlite"]
    assert answer("integrity", "check")["data"]["findings"] == []


def test_damaged_search_index_fails_check(deployment: Deployment, run: Run) -> None:
    ((index, *_), *_) = deployment.rows(
        "chat", "select name from sqlite_schema where sql like '%using fts5%'"
    )
    deployment.rows("chat", f"update {index}_data set block = x'00ff00ff' where id > 10")
    findings = run("integrity", "check", "--db", "chat", status=4)["findings"]
    assert [item["code"] for item in findings if item["severity"] == "error"] == ["text-index-damaged"]


def test_user_commands_report_missing_feature(run: Run) -> None:
    for arguments in ("users list", "roles list", "sessions list", "stats activity"):
        assert run(*arguments.split(), status=2)["code"] == "feature-missing"


def test_key_is_replaced_without_being_shown(
    deployment: Deployment, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = "sk-another-key-7788"

    def replace(*arguments: str, text: str = f"{new}\n", status: int = 0) -> Any:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        output = run("data", "set", "credentials", *arguments, "--db", "app", status=status)
        assert new not in json.dumps(output)
        return output

    def stored() -> list[tuple[Any, ...]]:
        return deployment.rows("app", "select api_key_encrypted from credentials where id = 'anthropic'")

    secret = ("--secret", "api_key_encrypted")
    replace("anthropic", *secret, "--dry-run")
    assert stored() == [(yaai.KEY,)]
    result = replace("anthropic", *secret)
    assert (result["changed"], result["after"]["api_key_encrypted"]) == (True, "***")
    assert stored() == [(new,)]
    assert replace("anthropic", *secret)["changed"] is False
    assert replace("anthropic", *secret, text="", status=2)["code"] == "value-invalid"
    assert replace("nosuch", *secret, status=5)["code"] == "row-not-found"
    assert replace("anthropic", "--secret", "base_url", status=2)["code"] == "usage"
    assert replace("--filter", "id=anthropic", *secret, status=2)["code"] == "usage"
    assert replace("anthropic", *secret, "--null", "api_key_encrypted", status=2)["code"] == "usage"
    assert stored() == [(new,)]


@of_deployment
def test_unused_database_is_rejected(deployment: Deployment, run: Run) -> None:
    deployment.paths["code"] = deployment.home / "db/code.sqlite"
    with_code = ["--url", f"code={deployment.paths['code']}"]
    assert "only created the file" in run(*with_code, "stats", "run", "sessions", status=2)["hint"]


def test_init_finds_used_databases_and_app_directory(
    deployment: Deployment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[..., dict[str, Any]],
) -> None:
    other_folder = tmp_path / "elsewhere"
    other_folder.mkdir()
    monkeypatch.chdir(other_folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    used = {name: f"../.yaai/db/{name}.sqlite" for name in deployment.paths}
    for name, arguments in (("home", []), ("above", [str(tmp_path)]), ("itself", [str(deployment.home)])):
        result = answer("--config", f"{name}.toml", "init", "yaai", *arguments)["data"]
        assert result["databases"] == used
        assert 'directory = "../.yaai"' in (other_folder / f"{name}.toml").read_text()
    nearer = getattr(yaai, deployment.variant)(other_folder / "copy")
    result = answer("--config", "here.toml", "init", "yaai")["data"]
    assert result["databases"] == {name: f"copy/db/{name}.sqlite" for name in nearer}


# Searching ---------------------------------------------------------------------------------------------------------

#: Triggers that update the index correctly: without commands that contentless tables reject.
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
def indexed(index: str, tmp_path: Path) -> Deployment:
    deployment = Deployment("document" if index == "document" else "deployed", tmp_path / ".yaai")
    with closing(sqlite3.connect(deployment.paths["chat"], isolation_level=None)) as connection:
        connection.executescript(INDEXES[index])
    return deployment


@pytest.fixture
def search(indexed: Deployment, index: str, capsys: pytest.CaptureFixture[str]) -> Run:
    def search(*words: str, status: int = 0) -> Any:
        capsys.readouterr()
        url = f"chat={indexed.paths['chat']}"
        exit_status = main(["--profile", "yaai", "--url", url, "-o", "json", "search", *words])
        output = json.loads(capsys.readouterr().out)
        assert exit_status == status, output
        return output

    if index == "repaired":
        search("index", "repair")
    return search


def list_ids(output: Any) -> set[str]:
    return {message["id"] for message in output["data"]["items"]}


#: Queries, and the ids of the messages that they match.
QUERIES = [
    (["plant*"], {yaai.ANSWER, yaai.FOLLOW_UP, yaai.REPLY}),
    (["PLANT*", "--filter", f"chat={yaai.GARDEN}"], {yaai.ANSWER, yaai.FOLLOW_UP}),
    (["plant*", "--filter", "chat=The parser"], {yaai.REPLY}),
    (["plant*", "--filter", "role=assistant", "--filter", "model=haiku"], {yaai.FOLLOW_UP}),
    (["carrots", "salad"], {yaai.ANSWER}),
    (["foo-bar"], {yaai.CODE}),
    (["NEAR"], {yaai.CODE}),
    (["NEAR(x)"], {yaai.CODE}),
    (["*.py"], {yaai.CODE}),
    (["bar:"], {yaai.CODE}),
    (["🥕"], {yaai.ANSWER}),
    (['"'], {yaai.ANSWER}),
    (['"salad",'], {yaai.ANSWER}),
    (["--filter", 'text:and "salad"'], {yaai.ANSWER}),
    (["plant*", "AND"], {yaai.ANSWER}),
    (["nothing like it"], set()),
    (["--filter", "liked=yes"], {yaai.ANSWER}),
    (["--filter", "since=2026-03-02"], {yaai.CODE, yaai.REPLY}),
    (["--filter", "until=2026-03-01", "--filter", "branch=later"], {yaai.FOLLOW_UP}),
    (["--filter", "tools>0"], {yaai.ANSWER, yaai.REPLY}),
]


def test_words_are_found_with_any_index(search: Run) -> None:
    for arguments, expected in QUERIES:
        assert list_ids(search("messages", *arguments)) == expected, arguments


def test_snippets_mark_words_with_any_index(search: Run, index: str) -> None:
    output = search("messages", "plant*", "--mark", "<b>", "</b>")
    snippets = {message["id"]: message["snippet"] for message in output["data"]["items"]}
    assert all("<b>" in text and "</b>" in text for text in snippets.values())
    assert snippets[yaai.REPLY] == "<b>Plant</b> a breakpoint at the colon."
    assert "<b>" not in str(search("messages", "plant")["data"])
    if index in ("repaired", "none", "document"):
        assert '"type"' not in snippets[yaai.ANSWER], "a snippet contains the text of the blocks, not JSON"


def test_message_has_title_of_chat(search: Run) -> None:
    messages = search("messages", "plant")["data"]["items"]
    assert [item["chat_title"] for item in messages] == ["The parser"]
    assert list(search("messages", "--columns", "id,chat_title", "--limit", "1")["data"]["items"][0]) == [
        "id",
        "chat_title",
    ]


#: For each index: its state, whether results are ranked, and part of the warning.
INDEX_STATES = {
    "healthy": ("valid", True, None),
    "repaired": ("valid", True, None),
    "deployed": ("broken", True, "finds rows, but is broken"),
    "document": ("broken", False, "every row was read"),
    "none": ("missing", False, "every row was read"),
}


def test_only_complete_index_is_used_and_problems_are_reported(search: Run, index: str) -> None:
    state, ranked, remark = INDEX_STATES[index]
    output = search("messages", "plant")
    assert search("index", "status")["data"]["items"][0]["state"] == state
    assert [row["score"] is not None for row in output["data"]["items"]] == [ranked]
    assert [remark in warning for warning in output["warnings"]] == ([True] if remark else [])


@pytest.mark.parametrize("index", ["deployed"])
def test_possibly_stale_index_is_not_used(search: Run, indexed: Deployment, index: str) -> None:
    indexed.rows("chat", "drop trigger messages_fts_update")
    indexed.rows("chat", f"update messages set content = 'A pond' where id = '{yaai.ANSWER}'")
    assert list_ids(search("messages", "pond*")) == {yaai.ANSWER}
    assert list_ids(search("messages", "carrots")) == set()


@pytest.mark.parametrize("index", ["deployed"])
def test_incomplete_index_is_not_used(search: Run, indexed: Deployment, index: str) -> None:
    indexed.rows("chat", "drop trigger messages_fts_insert")
    indexed.rows(
        "chat",
        f"insert into messages (id, chat_id, role, content) values ('n1', '{yaai.PARSER}', 'user', 'plant it')",
    )
    assert "n1" in list_ids(search("messages", "plant*"))


@pytest.mark.parametrize("index", ["healthy"])
def test_corrupt_index_is_reported_and_rebuilt(search: Run, indexed: Deployment, index: str) -> None:
    """The internal tables of an index can be corrupt although its definition and its rows are valid."""
    leaf = "(select max(id) from messages_fts_data)"
    indexed.rows("chat", f"update messages_fts_data set block = zeroblob(length(block)) where id = {leaf}")
    findings = search("index", "check", status=4)["data"]["findings"]
    (finding,) = findings
    assert finding["code"] == "text-index-damaged"
    assert "search index repair messages" in finding["hint"]
    steps = search("index", "repair", "--dry-run")["data"]["plan"]["steps"]
    assert steps[0].startswith("messages_fts is not usable: ")
    assert search("index", "repair")["data"]["changed"]
    assert search("index", "check")["data"]["findings"] == []
    assert list_ids(search("messages", "plant*")) == {yaai.ANSWER, yaai.FOLLOW_UP, yaai.REPLY}


def test_repaired_index_allows_and_follows_writes_of_app(
    search: Run, indexed: Deployment, index: str
) -> None:
    content = f"update messages set content = 'All about ponds' where id = '{yaai.ANSWER}'"
    delete_chat = f"delete from chats where id = '{yaai.PARSER}'"
    if index in ("deployed", "document"):
        with pytest.raises(sqlite3.Error):
            indexed.rows("chat", content if index == "deployed" else "select message_id from messages_fts")
    search("index", "repair")
    indexed.rows("chat", content)
    indexed.rows("chat", delete_chat)
    indexed.rows(
        "chat",
        f"""insert into messages (id, chat_id, role, content) values ('n1', '{yaai.GARDEN}', 'user', '[{{"type":"text","text":"A pond"}}]')""",
    )
    assert list_ids(search("messages", "pond*")) == {yaai.ANSWER, "n1"}
    assert list_ids(search("messages", "plant*")) == {yaai.FOLLOW_UP}
    assert search("index", "check")["data"]["findings"] == []
    apps_own = "select message_id, highlight(messages_fts, 0, '<', '>') from messages_fts where messages_fts match 'pond' and chat_id = '{}' order by rank"
    snippets = dict(indexed.rows("chat", apps_own.format(yaai.GARDEN)))
    assert set(snippets) == {yaai.ANSWER, "n1"}, "the query of the app"
    assert snippets["n1"] == ('[{"type":"text","text":"A <pond>"}]' if index == "healthy" else "A <pond>")


@pytest.mark.parametrize("index", ["repaired"])
def test_json_syntax_words_match_nothing(search: Run, index: str) -> None:
    for word in ("type", "tool_use"):
        assert list_ids(search("messages", word)) == set()


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
def test_content_of_any_format_is_indexed(search: Run, indexed: Deployment, index: str, content: str) -> None:
    with closing(sqlite3.connect(indexed.paths["chat"], isolation_level=None)) as connection:
        connection.execute("update messages set content = ? where id = ?", [content, yaai.QUESTION])
    assert search("index", "check")["data"]["findings"] == []
    search("messages", "pond")


def test_triggers_have_names_of_app(search: Run, indexed: Deployment, index: str) -> None:
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


def test_index_is_dropped_and_built(search: Run) -> None:
    search("index", "drop")
    assert search("index", "status")["data"]["items"][0]["state"] == "missing"
    search("index", "build")
    assert search("index", "check")["data"]["findings"] == []


@pytest.mark.parametrize("index", ["none"])
@pytest.mark.parametrize("action", ["build", "repair", "drop"])
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_foreign_table_with_index_name_is_not_dropped(
    search: Run, indexed: Deployment, index: str, action: str, options: tuple[str, ...]
) -> None:
    indexed.rows("chat", "create table messages_fts (notes)")
    indexed.rows("chat", "insert into messages_fts values ('mine')")
    assert search("index", action, *options, status=6)["error"]["code"] == "text-index-foreign"
    assert indexed.rows("chat", "select * from messages_fts") == [("mine",)]
    assert "repair" not in str(search("index", "check", status=4)) + str(search("messages", "plant"))


def test_chats_are_found_by_title(run: Run) -> None:
    (chat,) = run("search", "chats", "garden")["items"]
    assert chat["id"] == yaai.GARDEN
    assert run("search", "chats", "--filter", "messages>2", "--count") == {"total": 1}
    assert run("search", "chats", "--filter", "branches=1", "--count") == {"total": 1}


def test_message_is_shown_with_details(run: Run) -> None:
    message = run("search", "messages", "--id", yaai.QUESTION)
    assert [chat["title"] for chat in message["chat"]] == ["A garden"]
    assert [attachment["name"] for attachment in message["attachments"]] == ["bed.png"]
    assert [answer["id"] for answer in message["answers"]] == [yaai.ANSWER, yaai.FOLLOW_UP]


@of_document
def test_artifacts_are_found(run: Run) -> None:
    assert [artifact["id"] for artifact in run("search", "artifacts", "row")["items"]] == ["g1"]
    assert [artifact["id"] for artifact in run("search", "artifacts", "--filter", "size>1000")["items"]] == [
        "g2"
    ]
    assert run("search", "artifacts", "--filter", f"chat={yaai.GARDEN}", "--count") == {"total": 1}


@of_deployment
def test_missing_artifacts_database_is_reported(run: Run) -> None:
    assert run("search", "artifacts", status=2)["code"] == "schema-mismatch"


# Settings and secrets ----------------------------------------------------------------------------------------------


def test_settings_are_text_by_key(run: Run, deployment: Deployment) -> None:
    assert {setting["key"]: setting["value"] for setting in run("settings", "list")["items"]} == {
        "theme": "dark",
        "fontSize": "14",
    }
    run("settings", "set", "theme", "light")
    assert deployment.rows("app", "select value from settings where key = 'theme'") == [("light",)]
    run("settings", "set", "accentColor", "#00ff00")
    assert run("settings", "get", "accentColor")["value"] == "#00ff00"
    run("settings", "reset", "accentColor")
    assert run("settings", "get", "accentColor", status=5)["code"] == "setting-missing"


def test_provider_key_is_shown_only_with_secrets_option(
    run: Run, deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = run("data", "rows", "credentials", "--db", "app")["items"]
    assert {row["api_key_encrypted"] for row in rows} == {"***"}
    url = f"app={deployment.paths['app']}"
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


# Checks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run_cross_check(run: Run) -> Callable[[], list[Any]]:
    def run_cross_check(status: int = 0) -> list[Any]:
        findings: list[Any] = run("integrity", "cross-check", status=status)["findings"]
        return findings

    return run_cross_check


def severities_by_message(findings: list[Any]) -> dict[str, str]:
    return {
        finding["message"].partition(" (")[0].partition(": ")[2]: finding["severity"] for finding in findings
    }


def test_plain_text_keys_and_unfinished_tool_calls_are_reported(
    run_cross_check: Callable[[], list[Any]],
) -> None:
    findings = run_cross_check()
    messages = [finding["message"] for finding in findings if "keys of providers" in finding["message"]]
    assert messages == [
        "1 row: keys of providers that are stored unencrypted, despite the name of their column (anthropic)"
    ], "the other key is encrypted"
    assert (
        severities_by_message(findings)["tool calls that have been running for more than an hour"]
        == "warning"
    )


@of_deployment
def test_mixed_times_passwords_and_lost_research_are_reported(
    deployment: Deployment, run_cross_check: Callable[[], list[Any]]
) -> None:
    deployment.rows(
        "chat",
        """insert into research_sessions (id, query, depth_profile, config, stats, status, updated_at) values
        ('r1', 'x', 'light', '{}', '{}', 'reading', '2026-03-01 10:00:00'),
        ('r2', 'x', 'light', '{}', '{}', 'completed', '2026-03-01 10:00:00'),
        ('r3', 'x', 'light', '{}', '{}', 'reading', strftime('%Y-%m-%d %H:%M:%S', 'now'))""",
    )
    findings = run_cross_check()
    assert {"passwords of proxies that are stored unencrypted", "chats with times in two formats"} <= set(
        severities_by_message(findings)
    )
    (research,) = [finding["message"] for finding in findings if "research" in finding["message"]]
    assert research.endswith("(r1)")


@of_deployment
def test_two_active_proxies_are_an_error(deployment: Deployment, run: Run) -> None:
    deployment.rows("app", "drop index idx_proxy_active")
    deployment.rows(
        "app",
        "insert into proxy_configs (id, nickname, type, hostname, port, is_active, created_at, updated_at) values ('x2', 'home', 'http', 'h', 1, 1, '', '')",
    )
    findings = run("integrity", "cross-check", status=4)["findings"]
    assert severities_by_message(findings)["additional active proxies"] == "error"


@of_deployment
def test_missing_drafts_table_is_reported(deployment: Deployment, run: Run) -> None:
    assert "required tables that do not exist" not in severities_by_message(
        run("integrity", "cross-check")["findings"]
    )
    deployment.rows("app", "drop table drafts")
    findings = run("integrity", "cross-check", status=4)["findings"]
    assert severities_by_message(findings)["required tables that do not exist"] == "error"


@of_document
def test_messages_without_parent_or_branch_are_reported(
    deployment: Deployment, run_cross_check: Callable[[], list[Any]], run: Run
) -> None:
    run("search", "index", "repair")
    deployment.rows("chat", f"update messages set parent_id = 'gone' where id = '{yaai.REPLY}'")
    deployment.rows("chat", f"update messages set branch_id = 'gone' where id = '{yaai.ANSWER}'")
    assert {"replies to deleted messages", "messages on a deleted branch"} <= set(
        severities_by_message(run_cross_check())
    )


def test_references_to_deleted_chat_are_reported_in_all_databases(
    deployment: Deployment, run: Run, run_cross_check: Callable[[], list[Any]]
) -> None:
    run("search", "index", "repair")
    assert "missing-reference" not in {finding["code"] for finding in run_cross_check()}
    deployment.rows("chat", "delete from chats")
    messages = {
        finding["message"].partition(":")[0]
        for finding in run_cross_check()
        if finding["code"] == "missing-reference"
    }
    assert messages == (
        {"chats of artifacts", "chats of sessions"}
        if deployment.variant == "document"
        else {"chats in memory", "messages in memory", "important messages in memory"}
    )


def test_all_databases_are_checked_and_measured(run: Run, deployment: Deployment) -> None:
    run("search", "index", "repair")
    checked = run("integrity", "check")
    codes = [finding["code"] for finding in checked["findings"]]
    assert (checked["checked"], codes) == (
        len(deployment.paths),
        ["times-mixed"],
    )  # the app mixes time formats
    items = run("stats", "overview")["items"]
    assert [row["target"].partition("/")[2] for row in items] == list(deployment.paths)
    assert all(row["page_count"] * row["page_size"] == row["bytes"] for row in items)
    assert all({"freelist_pages", "wal_pages"} <= row.keys() for row in items)
    tables = {row["target"].partition("/")[2] for row in run("stats", "tables")["items"]}
    assert tables == set(deployment.paths)


def test_doctor_reports_readable_key_file_and_index(answer: Callable[..., dict[str, Any]]) -> None:
    with TemporaryDirectory() as folder:  # folders of pytest are not readable by other users
        Path(folder).chmod(0o755)
        paths = yaai.deployed(Path(folder))
        for path in (paths["app"].parent, paths["app"]):
            path.chmod(0o755)
        urls = [word for name, path in paths.items() for word in ("--url", f"{name}={path}")]
        findings = answer("--profile", "yaai", *urls, "doctor")["data"]["findings"]
    messages = {finding["code"]: finding["message"] for finding in findings}
    assert messages["readable-by-all"].endswith("it contains keys or passwords")
    assert "finds rows, but is broken" in messages["text-index-broken"]


# Cleanup, reports, rows --------------------------------------------------------------------------------------------


@of_deployment
def test_drafts_are_deleted_only_on_demand(deployment: Deployment, run: Run) -> None:
    run("sessions", "cleanup")
    assert deployment.rows("app", "select count(*) from drafts") == [(2,)]
    run("sessions", "cleanup", "--rule", "drafts", "--older-than", "30d")
    assert deployment.rows("app", "select project_id from drafts") == [(yaai.PARSER,)]


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
def test_every_report_runs(run: Run) -> None:
    for name, expected in REPORTED.items():
        first = run("stats", "run", name)["items"][0]
        assert {word: first[word] for word in expected} == expected, name


@of_deployment
def test_reports_run_on_deployment(run: Run) -> None:
    assert run("stats", "run", "research")["items"] == []
    for name in ("models", "tools", "stuck", "providers"):
        first = run("stats", "run", name)["items"][0]
        assert {word: first[word] for word in REPORTED[name]} == REPORTED[name], name


def test_chat_report_sorts_times_of_any_format(run: Run) -> None:
    rows = run("stats", "run", "chat", "--set", f"chat={yaai.GARDEN}")["items"]
    assert [row["id"] for row in rows] == [yaai.QUESTION, yaai.ANSWER, yaai.FOLLOW_UP]


def test_transcript_has_the_text_of_a_chat(deployment: Deployment, run: Run) -> None:
    rows = run("stats", "run", "transcript", "--set", f"chat={yaai.GARDEN}")["items"]
    stored = dict(
        deployment.rows("chat", f"select id, content from messages where chat_id = '{yaai.GARDEN}'")
    )
    assert [row["id"] for row in rows] == [yaai.QUESTION, yaai.ANSWER, yaai.FOLLOW_UP]
    assert {row["id"]: row["content"] for row in rows} == stored


def test_report_requires_its_parameter(run: Run) -> None:
    error = run("stats", "run", "chat", status=2)
    assert error["message"] == "chat requires --set chat=…"


def test_ended_tool_call_state_is_final(run: Run) -> None:
    run("data", "set", "tool_calls", "f2", "status=error")
    assert "is final" in run("data", "set", "tool_calls", "f2", "status=running", status=6)["hint"]


# Backups -----------------------------------------------------------------------------------------------------------


def test_backup_and_restore_cover_databases_and_app_files(
    deployment: Deployment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[..., dict[str, Any]],
) -> None:
    monkeypatch.chdir(tmp_path)
    yaai.create_files(deployment.home)
    answer("init", "yaai", ".yaai")
    backup = answer("backup", "create")["data"]
    stamp = backup["id"]
    iso = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[9:11]}-{stamp[11:13]}-{stamp[13:]}-000Z"
    names = {member["database"]: member["file"] for member in backup["members"]}
    assert names.pop("") == f"files_{stamp}.tar.gz"
    assert names == {name: f"{name}_{iso}.sqlite.gz" for name in deployment.paths}
    files = next(member for member in backup["members"] if not member["database"])
    assert files["facts"] == {"files": "6"}, "temporary files are not included"
    before = deployment.rows("chat", "select * from messages order by id")
    answer("search", "index", "repair")
    deployment.rows("chat", "delete from chats")
    answer("restore", "apply", "latest", "--yes")
    assert deployment.rows("chat", "select * from messages order by id") == before
    answer("restore", "undo", "--yes")
    assert deployment.rows("chat", "select count(*) from messages") == [(0,)]


def test_single_database_is_backed_up_and_restored(
    deployment: Deployment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[..., dict[str, Any]],
) -> None:
    monkeypatch.chdir(tmp_path)
    answer("init", "yaai", ".yaai")
    backup = answer("backup", "create", "--db", "app")["data"]
    assert [member["database"] for member in backup["members"]] == ["app"]
    deployment.rows("app", "delete from settings")
    answer("restore", "apply", "latest", "--db", "app", "--yes")
    assert deployment.rows("app", "select count(*) from settings") == [(2,)]


@of_deployment
def test_vacuum_preserves_search_index(run: Run) -> None:
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
def options_without_databases(tmp_path: Path) -> list[str]:
    """Return the options for four databases that do not exist."""
    return [
        "--profile",
        "yaai",
        *(word for name in FILES for word in ("--url", f"{name}={tmp_path / name}.sqlite")),
    ]


def test_migrations_create_documented_databases(
    options_without_databases: list[str], answer: Callable[..., dict[str, Any]]
) -> None:
    answer(*options_without_databases, "migrate", "up")
    items = answer(*options_without_databases, "migrate", "status", "--check")["data"]["items"]
    assert [(migration["database"], migration["name"]) for migration in items] == [
        (name, file) for name, files in FILES.items() for file in files
    ]
    for arguments in (
        "apps check",
        "migrate verify",
        "migrate drift",
        "integrity check",
        "search index check",
    ):
        assert answer(*options_without_databases, *arguments.split())["data"]["findings"] == [], arguments


def test_ledger_has_the_format_of_the_app(
    options_without_databases: list[str], tmp_path: Path, answer: Callable[..., dict[str, Any]]
) -> None:
    answer(*options_without_databases, "migrate", "up")
    with closing(sqlite3.connect(tmp_path / "chat.sqlite")) as connection:
        rows = connection.execute("select version, name, typeof(version) from _migrations").fetchall()
    assert rows == [(1, "initial", "integer"), (2, "add_branches", "integer"), (3, "add_fts", "integer")]


def test_reverted_and_reapplied_schema_is_identical(tmp_path: Path) -> None:
    for database, names in FILES.items():
        with closing(sqlite3.connect(tmp_path / database, isolation_level=None)) as connection:
            connection.executescript(yaai.LEDGER)
            schemas = []
            for name in [*names, None, *names]:
                if name:
                    connection.executescript(yaai.up(f"{database}/{name}"))
                else:
                    for reverted in reversed(names):
                        connection.executescript(yaai.down(f"{database}/{reverted}"))
                schemas.append(
                    connection.execute("select type, name, sql from sqlite_master order by 1, 2").fetchall()
                )
            emptied, repeated = schemas[len(names)], schemas[len(names) + 1 :]
            assert [entry[1] for entry in emptied] == ["_migrations"]
            assert repeated == schemas[: len(names)]


def test_built_index_finds_existing_messages(tmp_path: Path) -> None:
    first = "".join(yaai.up(f"chat/{name}") for name in FILES["chat"][:2])
    path = yaai.create_database(tmp_path / "chat.sqlite", first, yaai.CHAT)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(yaai.up("chat/003_add_fts"))
        matches = connection.execute(
            "select message_id from messages_fts where messages_fts match 'plant'"
        ).fetchall()
    assert {message_id for (message_id,) in matches} == {yaai.ANSWER, yaai.FOLLOW_UP, yaai.REPLY}


@of_document
def test_documented_database_has_index_drift_until_repair(run: Run) -> None:
    differs = {finding["code"] for finding in run("migrate", "drift", "--db", "chat", status=4)["findings"]}
    assert {"table-differs", "trigger-differs"} <= differs
    run("search", "index", "repair")
    assert run("migrate", "drift", "--db", "chat")["findings"] == []


@of_deployment
def test_repaired_index_is_no_drift(run: Run, deployment: Deployment) -> None:
    drift = ("migrate", "drift", "--db", "chat")
    assert run(*drift)["findings"] == []
    error = run("data", "set", "messages", yaai.ANSWER, "content=ponds", status=1)
    assert (error["code"], "search index repair messages" in error["hint"]) == ("query-failed", True)
    assert run("search", "index", "repair", "messages")["changed"]
    assert run(*drift)["findings"] == []
    deployment.rows("chat", "drop trigger chat_updated_on_message")
    assert [finding["code"] for finding in run(*drift, status=4)["findings"]] == ["trigger-missing"]


@of_deployment
def test_documented_migrations_do_not_run_on_deployment(run: Run, deployment: Deployment) -> None:
    before = deployment.rows("chat", "select name, sql from sqlite_master order by name")
    assert run("migrate", "up")["items"] == []
    error = run("migrate", "up", "--db", "chat", "--variant", "document", status=6)
    assert error["code"] == "migration-variant-mismatch"
    assert deployment.rows("chat", "select name, sql from sqlite_master order by name") == before


@of_deployment
def test_deployment_with_first_migration_continues(deployment: Deployment, run: Run) -> None:
    names = yaai.DEPLOYED["chat"]
    script = yaai.up(f"chat/{names[0]}", "deployed") + yaai.ledger_script(names[:1])
    deployment.paths["chat"].unlink()
    yaai.create_database(deployment.paths["chat"], script)
    run("migrate", "up", "--db", "chat")
    states = {item["name"]: item["state"] for item in run("migrate", "status", "--db", "chat")["items"]}
    assert states == dict.fromkeys(names, "applied")
    assert run("migrate", "drift", "--db", "chat")["findings"] == []


@of_deployment
@pytest.mark.parametrize("recorded", [True, False], ids=["ledger", "no ledger"])
@pytest.mark.parametrize(
    ("applied", "completed"),
    [("006_drafts", True), ("006_drafts", False), ("006_extended_model_types", True)],
    ids=["drafts, columns added", "drafts, columns missing", "extended_model_types"],
)
def test_either_history_of_duplicate_number_is_current(
    deployment: Deployment, run: Run, applied: str, *, completed: bool, recorded: bool
) -> None:
    names = [applied if name.startswith("006") else name for name in yaai.DEPLOYED["app"]]
    added = yaai.up("app/006_extended_model_types", "deployed") if completed and "drafts" in applied else ""
    script = "".join(yaai.up(f"app/{name}", "deployed") for name in names) + added
    deployment.paths["app"].unlink()
    yaai.create_database(deployment.paths["app"], script + (yaai.ledger_script(names) if recorded else ""))
    for arguments in ("baseline", "status --check", "verify", "drift", "up"):
        output = run("migrate", *arguments.split(), "--db", "app")
        assert output.get("findings", []) == [], arguments
    states = {item["name"]: item["state"] for item in run("migrate", "status", "--db", "app")["items"]}
    assert [name for name, state in states.items() if state == "applied"] == names


@of_deployment
@pytest.mark.parametrize("applied", ["drafts", "extended_model_types"])
def test_files_with_same_number_replace_each_other(
    deployment: Deployment, run: Run, tmp_path: Path, applied: str
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    names = [
        f"{version:03}_{name}"
        for version, name in deployment.rows("app", "select version, name from _migrations")
    ]
    for name in {*names, "006_drafts", "006_extended_model_types"}:
        (folder / f"{name}.sql").write_text("-- Up\nselect 1;\n")
    deployment.rows("app", f"update _migrations set name = '{applied}' where version = 6")
    (folder / "008_next.sql").write_text("-- Up\ncreate table next (x);\n")
    run("migrate", "up", "--db", "app", "--migrations", str(folder))
    page = run("migrate", "status", "--check", "--db", "app", "--migrations", str(folder))
    states = {migration["name"]: migration["state"] for migration in page["items"]}
    other = {"drafts": "extended_model_types", "extended_model_types": "drafts"}[applied]
    assert (states[f"006_{applied}"], states[f"006_{other}"], states["008_next"]) == (
        "applied",
        "baseline",
        "applied",
    )


@of_deployment
def test_deployment_continues_with_migrations_of_app(
    deployment: Deployment, run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for name in (
        "001_initial",
        "002_response_groups",
        "003_project_metadata",
        "004_research",
        "005_claude_projects",
    ):
        (folder / f"{name}.sql").write_text("-- Up\nselect 1;\n\n-- Down\ndrop table _migrations;\n")
    (folder / "006_notes.sql").write_text(
        "-- Up\ncreate table notes (id text primary key);\n\n-- Down\ndrop table notes;\n"
    )
    run("migrate", "up", "--db", "chat", "--migrations", str(folder))
    assert deployment.rows("chat", "select version, name from _migrations order by version desc limit 1") == [
        (6, "notes")
    ]
    assert deployment.rows("chat", "select count(*) from notes") == [(0,)]
