"""``dbctl search``: queries, filters, output formats, and errors."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import sqlite3
from contextlib import closing

import pytest

from dbctl.cli.main import main
from tests.in_process import CLEAN_ENVIRONMENT
from tests.shapes import flashpoint_web


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Configure two apps: one with the documented schema, one with the launcher's database."""
    folder = tmp_path_factory.mktemp("apps")
    flashpoint_web.document_flashpoint_db(folder / "document" / "flashpoint.sqlite")
    flashpoint_web.launcher_flashpoint_db(folder / "launcher" / "flashpoint.sqlite")
    (folder / "dbctl.toml").write_text(
        "".join(
            f'[apps.{app}]\nprofile = "flashpoint-web"\n[apps.{app}.databases]\nflashpoint = "{app}/flashpoint.sqlite"\n'
            for app in ("document", "launcher")
        ),
        encoding="utf-8",
    )
    return folder


@pytest.fixture
def dbctl(folder, start):
    before = _state(folder)

    def run(*words, app="document"):
        return start("--app", app, "search", *words, environment=CLEAN_ENVIRONMENT, cwd=folder)

    yield run
    assert _state(folder) == before


def _state(folder):
    """Return the content of every file below ``folder``; a search must not change or create any."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def data(process):
    response = json.loads(process.stdout)
    assert (response["ok"], response["exit_code"], response["error"]) == (True, 0, None), process
    assert (process.returncode, process.stderr) == (0, "")
    return response["data"]


def titles(page):
    return [item["title"] for item in page["items"]]


# Searching -----------------------------------------------------------------------------------------------------


def test_page_contains_total(dbctl):
    page = data(dbctl("games", "plain", "-o", "json", "--limit", "3", "--offset", "1"))
    assert titles(page) == ["Plain Game 024", "Plain Game 025", "Plain Game 026"]
    assert (page["total"], page["limit"], page["offset"], page["has_more"]) == (26, 3, 1, True)


@pytest.mark.needs_extension("external_index")
def test_full_scan_note_is_not_written_if_quiet(dbctl):
    response = json.loads(dbctl("games", "plain", "-o", "json").stdout)
    (warning,) = response["warnings"]
    assert re.search(r"build it with: \S*dbctl search index build games --app \S+$", warning)
    response = json.loads(dbctl("games", "plain", "--count", "-o", "json").stdout)
    assert response["warnings"] == [warning]
    for words in (["plain"], ["plain", "--count"]):
        assert dbctl("games", *words, "--quiet").stderr == ""
    for words in ([], ["pl"], ["--filter", "title:plain"]):
        assert json.loads(dbctl("games", *words, "-o", "json").stdout)["warnings"] == []


def test_envelope_contains_target(dbctl):
    response = json.loads(dbctl("games", "-o", "json", app="launcher").stdout)
    assert (response["schema"], response["target"]) == ("dbctl.search/1", "launcher/flashpoint")
    assert len(response["data"]["items"]) == response["data"]["limit"] == 50
    assert response["data"]["total"] == 1200


def test_words_filters_and_query_are_combined(dbctl):
    words = (
        "games",
        "ALPHA",
        "--filter",
        "library=arcade",
        "--filter",
        "year-from=2005",
        "--query",
        "-#Action -title:%",
    )
    assert titles(data(dbctl(*words, "-o", "json"))) == ["alpha valley 2"]


def test_negated_query_word_excludes_rows(dbctl):
    everything = data(dbctl("games", "--count", "-o", "json", app="launcher"))["total"]
    with_word = data(dbctl("games", "--query", "puzzle", "--count", "-o", "json", app="launcher"))["total"]
    without = data(dbctl("games", "--query", "-puzzle", "--count", "-o", "json", app="launcher"))["total"]
    assert (everything, with_word + without) == (1200, 1200)
    assert with_word > 0


@pytest.mark.parametrize("words", [("--sort", "-title"), ("--sort", "title:desc"), ("--sort=-title",)])
def test_sort_order_is_reversed(dbctl, words):
    assert titles(data(dbctl("games", "alpha", "-o", "json", *words))) == [
        "Alpha%",
        "alpha valley 2",
        "Alpha Valley",
    ]


def test_hidden_games_are_shown_on_request(dbctl):
    def total(*words):
        return data(dbctl("games", "--count", "-o", "json", *words))["total"]

    assert (
        total(),
        total("--include-hidden", "broken"),
        total("--include-hidden", "broken,extreme"),
        total("--hidden"),
    ) == (45, 46, 48, 48)
    assert (
        total("--filter", "broken=yes"),
        total("--filter", "extreme=yes", "--include-hidden", "broken"),
    ) == (1, 2)


def test_playlist_is_in_stored_order(dbctl):
    page = data(dbctl("games", "--filter", "playlist=Favourites of 100%", "-o", "json"))
    assert titles(page) == ["Two Sets of Data", "Alpha Valley", 'It\'s a "Quoted" Game']


def test_archive_playlists_can_be_searched(dbctl):
    page = data(dbctl("playlists", "-o", "json"))
    assert titles(page) == ["Empty [list]", "Favourites of 100%", "Short Films"]
    assert titles(data(dbctl("playlists", "films", "-o", "json"))) == ["Short Films"]
    assert titles(
        data(dbctl("playlists", "--filter", f"game={flashpoint_web.game_id(9)}", "-o", "json"))
    ) == ["Favourites of 100%"]
    playlist_data = data(dbctl("playlists", "--id", flashpoint_web.PLAYLISTS[1][0], "-o", "json"))
    assert {row["gameId"] for row in playlist_data["games"]} == {
        flashpoint_web.game_id(13),
        flashpoint_web.game_id(19),
    }


def test_user_playlists_can_be_searched(tmp_path, start):
    """The archive also has a table of playlists, but the playlists of users take precedence."""
    user = flashpoint_web.deployed_user_db(tmp_path / "user.db")
    eve = flashpoint_web.add_user(user, "eve")
    with closing(sqlite3.connect(user)) as connection, connection:
        connection.executescript(
            f"""insert into user_playlists (id, user_id, title, is_public, share_token)
            values (7, {eve}, 'Rainy days', 1, 'secret-token'), (8, {eve}, 'Quiet ones', 0, null);
            insert into user_playlist_games (playlist_id, game_id, order_index) values (7, 'b', 0), (7, 'a', 1)"""
        )
    archive = flashpoint_web.document_flashpoint_db(tmp_path / "flashpoint.sqlite")
    app = ["--profile", "flashpoint-web", "--url", f"user={user}", "--url", f"flashpoint={archive}"]

    def run_search(*words):
        return start(
            *app, "search", "playlists", *words, "-o", "json", environment=CLEAN_ENVIRONMENT, cwd=tmp_path
        )

    assert titles(data(run_search())) == ["Quiet ones", "Rainy days"]
    process = run_search("--filter", "owner=eve", "--filter", "public=yes")
    (playlist,) = data(process)["items"]
    assert (playlist["owner"], playlist["game_count"], playlist["is_public"]) == ("eve", 2, True)
    single, selected = run_search("--id", "7"), run_search("--columns", "id,share_token")
    assert [row["share_token"] for row in data(selected)["items"]] == [None, "***"]
    assert [row["game_id"] for row in data(single)["games"]] == ["b", "a"]
    assert "secret-token" not in process.stdout + single.stdout + selected.stdout


def test_search_without_table_is_schema_mismatch(dbctl):
    process = dbctl("playlists", "-o", "json", app="launcher")
    assert json.loads(process.stdout)["error"]["code"] == "schema-mismatch"


def test_single_game_shows_related_rows(dbctl):
    game = data(dbctl("games", "--id", flashpoint_web.game_id(1), "-o", "json"))
    assert (game["title"], game["launch"]) == ("Alpha Valley", "http://example.org/1/game.swf")
    assert game["tags"] == ["Action", "Platformer", "Puzzle"]
    assert game["extras"] == [{"id": flashpoint_web.game_id(2), "title": "alpha valley 2"}]
    assert [entry["presentOnDisk"] for entry in game["data"]] == [1]


def test_explain_shows_sql_and_plan_and_warns_of_full_scans(dbctl):
    process = dbctl("games", "100%", "--explain", "-o", "json")
    response = json.loads(process.stdout)
    assert response["data"]["query"] == "100%"
    assert response["data"]["sql"].startswith("select")
    assert "%100!%%" in response["data"]["parameters"]
    assert response["data"]["plan"]
    assert any("scanned completely" in warning for warning in response["warnings"])
    assert "full_scans  game" in dbctl("games", "100%", "--explain").stdout


# Formats ---------------------------------------------------------------------------------------------------------


def test_every_format_has_same_rows(dbctl):
    words = ("games", "alpha", "--columns", "id,title")
    rows = [
        {"id": flashpoint_web.game_id(number), "title": title}
        for number, title in [(1, "Alpha Valley"), (2, "alpha valley 2"), (21, "Alpha%")]
    ]
    assert data(dbctl(*words, "-o", "json"))["items"] == rows
    assert [json.loads(line) for line in dbctl(*words, "-o", "jsonl").stdout.splitlines()] == rows
    assert list(csv.DictReader(io.StringIO(dbctl(*words, "-o", "csv").stdout, newline=""))) == rows
    for form in ("table", "tsv", "markdown"):
        text = dbctl(*words, "-o", form).stdout
        assert all(row["title"] in text for row in rows), form


def test_any_table_column_can_be_shown(dbctl):
    page = data(dbctl("games", "alpha%", "--columns", "archiveState,notes", "-o", "json"))
    assert page["items"] == [{"archiveState": 0, "notes": ""}]


def test_control_characters_are_escaped_in_table_and_exact_in_json(dbctl):
    table = dbctl("games", "bell").stdout
    assert "\x1b" not in table
    assert "\u202e" not in table
    assert "\\x1b" in table
    assert titles(data(dbctl("games", "bell", "-o", "json"))) == [
        "bell\x07 and \x1b[31mred and \u202ereversed"
    ]
    assert "[bold red]Markup[/bold red]" in dbctl("games", "markup").stdout


def test_empty_result_exits_0(dbctl):
    assert data(dbctl("games", "nothing of the kind", "-o", "json"))["items"] == []


# Errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "code", "text"),
    [
        ((), 2, "usage", "games"),
        (("prompts",), 5, "search-missing", "games"),
        (("games", "--filter", "plattform=Flash"), 2, "usage", "no key 'plattform'"),
        (("games", "--filter", "Flash"), 2, "usage", "KEY=VALUE"),
        (("games", "--filter", "tag:"), 2, "value-invalid", "missing"),
        (("games", "--filter", "year-from=last"), 2, "value-invalid", "2005-03"),
        (("games", "--filter", "downloaded=perhaps"), 2, "value-invalid", "yes or no"),
        (("games", "--query", "tags>many"), 2, "value-invalid", "number"),
        (("games", "--filter", "pt>1h"), 2, "not-supported", "play time"),
        (("games", "--sort", "titel"), 2, "usage", "no order 'titel'"),
        (("games", "--sort", "lastPlayed"), 2, "schema-mismatch", "lastPlayed"),
        (("games", "--include-hidden", "tag"), 2, "usage", "broken, extreme"),
        (("games", "--columns", "titel"), 2, "usage", "no column 'titel'"),
        (("games", "--id", "nope"), 5, "row-not-found", "nope"),
        (("games", "word", "--id", "x"), 2, "usage", "cannot be combined"),
        (("games", "--count", "--explain"), 2, "usage", "cannot be combined"),
        (("games", "--limit", "0"), 2, "usage", "whole number from 1"),
        (("games", "--limit", "-1"), 2, "usage", "whole number from 1"),
        (("games", "--limit", "1" + "0" * 20), 2, "usage", "whole number from 1"),
        (("games", "--offset", "-1"), 2, "usage", "whole number from 0"),
        (("games", "x" * 60_000), 2, "value-invalid", "longer than 5,000"),
        (("games", "--filter", "title=" + "%" * 60_000), 2, "value-invalid", "longer than 5,000"),
        (("games", "--query", "_" * 60_000), 2, "value-invalid", "longer than 5,000"),
        (("games", "a\udcff"), 2, "value-invalid", "not text"),
        (("games", "--id", "a\udcff"), 2, "value-invalid", "not text"),
        (("games", *["x"] * 101), 2, "value-invalid", "100"),
    ],
)
def test_invalid_search_is_one_line_error(dbctl, words, status, code, text):
    process = dbctl(*words, "-o", "json")
    response = json.loads(process.stdout)
    assert (process.returncode, response["ok"], response["data"], response["error"]["code"]) == (
        status,
        False,
        None,
        code,
    )
    assert text in response["error"]["message"] + response["error"]["hint"]
    assert text in process.stderr
    assert len(process.stderr.splitlines()) == (2 if response["error"]["hint"] else 1)
    assert len(process.stderr) < 1500


def test_launcher_playlists_are_reported_as_files(dbctl):
    process = dbctl("games", "--filter", "playlist=x", app="launcher")
    assert process.returncode == 2
    assert "JSON files" in process.stderr


@pytest.mark.parametrize(
    "word", ["%", "_", "'", '"', "\\", ";", "--", "[/x]", "*", "^", "NEAR(", '"\t"', '"\n"', "é", "🎮"]
)
def test_special_characters_are_literal_words(dbctl, word):
    page = data(dbctl("games", "-o", "json", "--limit", "1000", "--hidden", "--", word))
    assert all(
        any(
            (word.strip('"') or word) in str(item[column] or "")
            for column in ("title", "alternateTitles", "developer", "publisher", "series")
        )
        for item in page["items"]
    )


def test_key_of_a_match_is_what_data_show_accepts(tmp_path, monkeypatch, capsys, answer):
    monkeypatch.chdir(tmp_path)
    rows = [(1, "first", "a needle"), (2, "it's two; words", "needle"), (2, "a, b", "the needle")]
    with closing(sqlite3.connect(tmp_path / "notes.db")) as connection, connection:
        connection.execute("create table notes (a integer, b text, body text, primary key (a, b))")
        connection.executemany("insert into notes values (?, ?, ?)", rows)
    database = ["--url", "main=notes.db"]
    capsys.readouterr()
    assert main([*database, "search", "all", "needle"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    start, end = header.index("key"), header.index("snippet")
    shown = [shlex.split(line[start:end]) for line in lines]
    stored = [answer(*database, "data", "show", "notes", *key)["data"] for key in shown]
    assert sorted((row["a"], row["b"], row["body"]) for row in stored) == sorted(rows)
    assert [match["key"] for match in answer(*database, "search", "all", "needle")["data"]["items"]] == [
        [int(number), text] for number, text in shown
    ]
