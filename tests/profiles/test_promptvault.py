"""PromptVault: every ability on each of its shapes, and on each engine that it may live on."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import bcrypt
import pytest

from dbctl.cli.main import main
from dbctl.profiles.codecs import KEYS
from dbctl.url import parse
from tests import servers
from tests.shapes import promptvault
from tests.shapes.flashpoint_web import PASSWORD

SHAPES = ("deployed", "pushed", "document", "postgresql", "mysql")
#: Those whose index for searching has to be made, or made anew, before anything is ranked.
LITE = ("deployed", "pushed", "document")
Run = Callable[..., Any]
on_sqlite = pytest.mark.parametrize("vault", LITE, indirect=True)


class Vault(Protocol):
    """One deployment."""

    shape: str
    url: str

    def rows(self, sql: str) -> list[tuple[Any, ...]]: ...


class File:
    def __init__(self, shape: str, place: Path) -> None:
        self.shape = shape
        self.path = getattr(promptvault, shape)(place / "promptvault.db")
        self.url = str(self.path)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(sql).fetchall()


class Served:
    def __init__(self, shape: str, url: str) -> None:
        self.shape, self.url = shape, url

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        if self.shape == "mysql":
            with closing(servers.mysql_connection(parse(self.url))) as mysql, mysql.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall())
        with closing(servers.connection(parse(self.url))) as connection:
            done = connection.execute(sql)
            return done.fetchall() if done.description else []


def made(shape: str, place: Path) -> Iterator[Vault]:
    if shape in LITE or shape == "empty":
        yield File(shape, place)
    else:
        with getattr(promptvault, f"on_{shape}")() as url:
            yield Served(shape, url)


@pytest.fixture(params=SHAPES)
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vault]:
    yield from made(request.param, tmp_path)


@pytest.fixture
def run(vault: Vault, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on the deployment of the test; return its ``data``, or its error where another status is expected."""
    return runner(vault.url, capsys)


def runner(url: str, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, status: int = 0, warnings: bool = False) -> Any:
        capsys.readouterr()
        found = main(["--profile", "promptvault", "--url", f"main={url}", "-o", "json", *words])
        told = json.loads(capsys.readouterr().out)
        assert found == status, told
        if warnings:
            return told["warnings"]
        return told["data"] if told["data"] is not None else told["error"]

    return run


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


# The profile -------------------------------------------------------------------------------------------------------


def test_profile_and_database_agree(run: Run) -> None:
    assert run("apps", "check")["findings"] == []


# Users -------------------------------------------------------------------------------------------------------------


def test_users_are_read_whatever_form_their_times_have(run: Run) -> None:
    found = run("users", "list")["items"]
    assert [(one["email"], one["name"], one["role"], one["active"]) for one in found] == [
        ("ada@example.org", "Ada", "ADMIN", None),
        ("ben@example.org", "Ben", "USER", None),
        ("cleo@example.org", None, "USER", None),
    ]
    assert [one["created_at"] for one in found] == [f"2026-03-0{day}T09:30:00.000Z" for day in (2, 3, 4)], (
        "milliseconds and a text that somebody wrote by hand"
    )


@pytest.mark.parametrize(
    ("team", "logins"),
    [
        (promptvault.TEAM, ["ada@example.org"]),
        ("Research", ["ada@example.org"]),
        ("research", ["ada@example.org"]),
        ("development", ["ben@example.org"]),
        ("nobody's", []),
    ],
)
def test_users_are_found_by_the_id_of_their_team_its_name_or_what_they_wrote(
    run: Run, team: str, logins: list[str]
) -> None:
    assert [one["email"] for one in run("users", "list", "--filter", f"team={team}")["items"]] == logins


def test_a_team_that_exists_is_set_by_its_id_and_another_word_as_it_is(run: Run, vault: Vault) -> None:
    for team in ("Research", "gardeners"):
        run("users", "update", "cleo@example.org", "--set", f"team={team}")
        stored = vault.rows(f"""select "team" from "User" where "id" = '{promptvault.CLEO}'""")
        assert stored == [(promptvault.TEAM if team == "Research" else team,)]


def test_a_new_user_is_stored_as_prisma_stores_one(
    run: Run, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, "a good password\n")
    made = run("users", "create", "dan@example.org", "--name", "Dan", "--password-stdin")
    key = made["user"]["id"]
    ((hashed, role, created, updated),) = vault.rows(
        f"""select "password", "role", "createdAt", "updatedAt" from "User" where "id" = '{key}'"""
    )
    assert len(key) == 25
    assert key[0] == "c"
    assert key.isalnum()
    assert key == key.lower()
    assert hashed.startswith("$2b$10$")
    assert bcrypt.checkpw(b"a good password", hashed.encode())
    assert role == "USER"
    assert created == updated
    assert isinstance(created, int) == (vault.shape in LITE), (
        "never a text, which Prisma may not be able to read"
    )


def test_two_ids_differ_and_come_in_the_order_of_time() -> None:
    make = KEYS["cuid"]
    assert make is not None
    keys = [make() for _ in range(50)]
    assert len(set(keys)) == 50
    assert [key[:9] for key in keys] == sorted(key[:9] for key in keys)


@pytest.mark.parametrize("password", ["short77", "ü" * 37])
def test_a_password_that_the_app_or_bcrypt_would_not_take_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    typed(monkeypatch, f"{password}\n")
    error = run("users", "set-password", "ben@example.org", "--password-stdin", status=2)
    assert error["code"] == "value-invalid"
    assert password not in json.dumps(error)


def test_a_changed_password_signs_nobody_out_and_dbctl_says_so(run: Run) -> None:
    told = run("users", "set-password", "ben@example.org", "--generate", warnings=True)
    assert ["7 days" in one for one in told] == [True]
    told = run("users", "set-role", "ben@example.org", "ADMIN", warnings=True)
    assert ["7 days" in one for one in told] == [True]
    assert run("users", "update", "ben@example.org", "--name", "Benjamin", warnings=True) == []


def test_a_password_that_is_stored_is_known(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, f"{PASSWORD}\n")
    assert run("users", "check-password", "ben@example.org", "--password-stdin")["matches"]


@pytest.mark.parametrize(
    "words", [("set-role", "ada@example.org", "USER"), ("delete", "ada@example.org", "--yes")]
)
def test_the_last_admin_stays(run: Run, vault: Vault, words: tuple[str, ...]) -> None:
    assert run("users", *words, status=6)["code"] == "last-admin"
    assert vault.rows('select count(*) from "User"') == [(3,)]


@pytest.mark.parametrize("word", ["activate", "deactivate"])
def test_nobody_can_be_deactivated_because_the_app_knows_no_such_thing(run: Run, word: str) -> None:
    assert run("users", word, "ben@example.org", status=2)["code"] == "usage"


def test_roles_are_shown_and_counted_but_never_changed(run: Run) -> None:
    assert {one["name"]: one["users"] for one in run("roles", "list")["items"]} == {"ADMIN": 1, "USER": 2}
    assert run("roles", "create", "EDITOR", status=2)["code"] == "not-supported"


# Deleting ----------------------------------------------------------------------------------------------------------

COUNTED = ("User", "Prompt", "PromptVersion", "PromptTag", "Rating", "UserTeam")


def counts(vault: Vault) -> dict[str, int]:
    return {table: vault.rows(f'select count(*) from "{table}"')[0][0] for table in COUNTED}


def usable(run: Run, vault: Vault) -> None:
    """Repair the document's own triggers first, with which no prompt can be changed or deleted at all."""
    if vault.shape == "document":
        run("search", "index", "repair")


def test_a_user_goes_with_all_that_is_theirs_in_the_order_that_the_keys_want(run: Run, vault: Vault) -> None:
    usable(run, vault)
    plan = run("users", "delete", "ben@example.org", "--dry-run")["plan"]
    assert plan["rows"] == {
        "User": 1, "Rating": 2, "PromptTag": 2, "PromptVersion": 2, "Prompt": 2, "UserTeam": 1,
    }  # fmt: skip
    assert plan["destructive"]
    before = counts(vault)
    run("users", "delete", "ben@example.org", "--yes")
    assert {table: before[table] - left for table, left in counts(vault).items()} == plan["rows"]
    assert vault.rows('select "id" from "Prompt"') == [(promptvault.NOTES,)]


def test_what_a_user_leaves_can_be_handed_over(run: Run, vault: Vault) -> None:
    usable(run, vault)
    words = ("users", "delete", "ben@example.org", "--transfer-to", "cleo@example.org")
    plan = run(*words, "--dry-run")["plan"]
    assert plan["rows"] == {"User": 1, "Prompt": 2, "Rating": 2, "UserTeam": 1}
    done = run(*words, "--yes")
    assert done["transferred"] == {"Prompt": 2, "Rating": 2}
    assert counts(vault) == {
        "User": 2, "Prompt": 3, "PromptVersion": 4, "PromptTag": 3, "Rating": 3, "UserTeam": 0,
    }  # fmt: skip
    owners = vault.rows('select "userId", count(*) from "Prompt" group by "userId"')
    assert sorted(owners) == sorted([(promptvault.ADA, 1), (promptvault.CLEO, 2)])


def test_a_rating_that_the_heir_has_given_too_is_deleted_on_request(run: Run, vault: Vault) -> None:
    usable(run, vault)
    run("users", "set-role", "ben@example.org", "ADMIN")
    words = ("users", "delete", "ada@example.org", "--transfer-to", "ben@example.org", "--yes")
    assert run(*words, status=6)["code"] == "duplicate-rows"
    assert vault.rows('select count(*) from "Rating"') == [(3,)]
    done = run(*words, "--delete-duplicates")
    assert done["transferred"] == {"Prompt": 1}
    assert done["rows"] == {"User": 1, "Prompt": 1, "Rating": 1}
    assert vault.rows('select "value" from "Rating" order by "value"') == [(3,), (4,)]


@pytest.mark.parametrize(("heir", "status"), [("ben@example.org", 2), ("nobody@example.org", 5)])
def test_nothing_is_handed_to_who_goes_or_is_not_there(
    run: Run, vault: Vault, heir: str, status: int
) -> None:
    run("users", "delete", "ben@example.org", "--transfer-to", heir, "--yes", status=status)
    assert counts(vault)["User"] == 3


# Settings ----------------------------------------------------------------------------------------------------------


def test_a_setting_that_is_a_column_is_shown_set_and_reset(run: Run, vault: Vault) -> None:
    assert [(one["key"], one["value"], one["type"]) for one in run("settings", "list")["items"]] == [
        ("allowRegistration", True, "boolean")
    ]
    run("settings", "set", "allowRegistration", "no")
    assert run("settings", "get", "allowRegistration")["value"] is False
    assert vault.rows('select "id", "allowRegistration" from "Settings"') == [(1, False)]
    run("settings", "reset", "allowRegistration")
    assert run("settings", "get", "allowRegistration")["value"] is True


def test_a_missing_row_lets_everybody_register_and_is_made_when_it_is_set(run: Run, vault: Vault) -> None:
    vault.rows('delete from "Settings"')
    assert run("settings", "get", "allowRegistration")["value"] is True
    run("settings", "set", "allowRegistration", "no")
    assert vault.rows('select "id", "allowRegistration" from "Settings"') == [(1, False)]


def test_of_several_rows_all_say_the_same_after_a_change(run: Run, vault: Vault) -> None:
    vault.rows(
        """insert into "Settings" ("id", "allowRegistration", "updatedAt") select 2, true, "updatedAt" from "Settings" """
    )
    run("settings", "set", "allowRegistration", "no")
    assert vault.rows('select "allowRegistration" from "Settings"') == [(False,), (False,)]
    assert "settings" in str(run("integrity", "cross-check")["findings"])


def test_settings_are_exported_and_applied_and_no_other_is_taken(run: Run, tmp_path: Path) -> None:
    assert run("settings", "export") == {"allowRegistration": True}
    file = tmp_path / "wanted.json"
    file.write_text('{"allowRegistration": false}')
    assert run("settings", "apply", str(file))["changed"] == ["allowRegistration"]
    assert run("settings", "validate")["findings"] == []
    file.write_text('{"colour": "red"}')
    assert "allowRegistration" in run("settings", "apply", str(file), status=2)["message"]


# Searching ---------------------------------------------------------------------------------------------------------


def ids(found: Any) -> list[str]:
    return [one["id"] for one in found["items"]]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--filter", "tag=work"], {promptvault.NOTES, promptvault.PARSER}),
        (["--filter", "tag=work", "--filter", "tag=code"], {promptvault.PARSER}),
        (["--filter", "visibility=team"], {promptvault.NOTES, promptvault.GARDEN}),
        (["--filter", "owner=ben@example.org"], {promptvault.PARSER, promptvault.GARDEN}),
        (["--filter", "owner=Ada"], {promptvault.NOTES}),
        (["--filter", "team=Research"], {promptvault.NOTES}),
        (["--filter", "team=development"], {promptvault.PARSER, promptvault.GARDEN}),
        (["--filter", "public=yes"], {promptvault.NOTES}),
        (["--filter", "share=share_k3j9x0q2a"], {promptvault.NOTES}),
        (["--filter", "created>2026-03-06"], {promptvault.PARSER, promptvault.GARDEN}),
        (["--filter", "versions=2"], {promptvault.NOTES}),
        (["--filter", "rating>4"], {promptvault.NOTES}),
        (["--filter", "tags=0"], {promptvault.GARDEN}),
    ],
)
def test_prompts_are_found_by_what_is_known_of_them(run: Run, words: list[str], found: set[str]) -> None:
    assert set(ids(run("search", "prompts", *words))) == found


def test_a_prompt_is_shown_whole(run: Run) -> None:
    told = run("search", "prompts", "--id", promptvault.NOTES)
    assert told["body"] == "List the decisions of a meeting, with owners."
    assert told["isPubliclyShared"] is True
    assert told["createdAt"] == "2026-03-05T09:30:00.000Z"
    assert [one["title"] for one in told["versions"]] == ["Summarize a meeting", "Summarize"]
    assert [one["value"] for one in told["ratings"]] == [4, 5]
    assert told["tags"] == ["work"]
    assert told["owner"][0]["email"] == "ada@example.org"


def test_words_are_found_without_an_index_and_that_is_said(run: Run) -> None:
    assert ids(run("search", "prompts", "meeting")) == [promptvault.NOTES]
    told = run("search", "prompts", "meeting", warnings=True)
    assert ["search index" in one for one in told] == [True]
    assert run("search", "prompts", "--filter", "tag=work", warnings=True) == []


def test_an_index_ranks_what_it_finds_and_shows_where(run: Run, vault: Vault) -> None:
    run("search", "index", "repair")
    assert run("search", "index", "status")["items"][0]["state"] == "sound"
    assert run("search", "index", "check")["findings"] == []
    (best,) = run("search", "prompts", "parser")["items"]
    assert best["id"] == promptvault.PARSER
    assert best["score"] > 0
    assert "parser" in best["snippet"].lower()
    assert run("search", "prompts", "parser", warnings=True) == []
    assert run("search", "prompts", "parser", "--count") == {"total": 1}
    assert ids(run("search", "prompts", "parser", "--filter", "tag=code", "--sort", "title")) == [
        promptvault.PARSER
    ]
    assert ids(run("search", "prompts", "parser", "--filter", "tag=garden")) == []
    assert ids(run("search", "prompts", "parser functions")) == [promptvault.PARSER]
    assert ids(run("search", "prompts", '"parser functions"')) == []
    assert ids(run("search", "prompts", "parser", "functions")) == [promptvault.PARSER]
    assert ids(run("search", "prompts", "--query", "parser -functions")) == []
    assert "parser" in str(run("search", "prompts", "parser", "--explain")["parameters"])


@pytest.mark.parametrize("word", ['"', "''", "*", "a OR b", "NEAR(", ":::", "-", "\\", "the"])
def test_no_word_can_be_taken_for_a_query(run: Run, word: str) -> None:
    run("search", "index", "repair")
    run("search", "prompts", "--", word)


def test_signs_that_no_index_knows_are_taken_literally_all_the_same(run: Run, vault: Vault) -> None:
    run("search", "index", "repair")
    vault.rows(f"""update "Prompt" set "title" = 'Learn C++ and more' where "id" = '{promptvault.GARDEN}'""")
    assert ids(run("search", "prompts", "C++")) == [promptvault.GARDEN]
    assert ids(run("search", "prompts", "C++", "more")) == [promptvault.GARDEN]
    assert ids(run("search", "prompts", "owners.")) == [promptvault.NOTES]


def test_an_index_can_be_dropped_and_built(run: Run) -> None:
    run("search", "index", "drop")
    assert run("search", "index", "status")["items"][0]["state"] == "missing"
    assert [one["code"] for one in run("search", "index", "check")["findings"]] == ["text-index-missing"]
    assert run("search", "index", "build")["changed"]
    assert not run("search", "index", "build")["changed"]
    assert not run("search", "index", "repair")["changed"]


@pytest.mark.parametrize("vault", ["deployed", "document"], indirect=True)
def test_an_index_that_is_of_no_use_is_left_to_repair(run: Run, vault: Vault) -> None:
    findings = run("search", "index", "check", status=4)["findings"]
    assert [one["code"] for one in findings] == ["text-index-broken"]
    assert run("search", "index", "build", status=6)["code"] == "already-exists"
    assert "text-index-broken" in [one["code"] for one in run("doctor")["findings"]]
    before = vault.rows("select name, sql from sqlite_master order by name")
    run("search", "index", "repair", "--dry-run")
    assert vault.rows("select name, sql from sqlite_master order by name") == before


@pytest.mark.parametrize("vault", ["pushed"], indirect=True)
def test_a_table_that_is_no_index_is_never_dropped(run: Run, vault: Vault) -> None:
    vault.rows("create table PromptSearch (pid text, kept text)")
    vault.rows("insert into PromptSearch values ('x', 'y')")
    for word in ("repair", "drop"):
        assert run("search", "index", word, status=6)["code"] == "text-index-foreign"
    assert vault.rows("select * from PromptSearch") == [("x", "y")]


@on_sqlite
def test_a_repaired_index_follows_every_change_of_the_app(run: Run, vault: Vault) -> None:
    run("search", "index", "repair")

    def apps_own(words: str) -> list[str]:
        sql = f"select p.id from PromptSearch s join Prompt p on p.id = s.pid where PromptSearch match '{words}'"
        return sorted(row[0] for row in vault.rows(sql))

    assert apps_own("meeting") == [promptvault.NOTES], "the app's own way to search works, too"
    vault.rows(f"update Prompt set title = 'Plan a pond' where id = '{promptvault.GARDEN}'")
    assert (apps_own("pond"), apps_own("garden")) == ([promptvault.GARDEN], [])
    vault.rows(f"insert into PromptTag values ('{promptvault.GARDEN}', 'cm8taggarden0000000000000')")
    assert apps_own("garden") == [promptvault.GARDEN]
    vault.rows("update Tag set name = 'water' where name = 'garden'")
    assert (apps_own("water"), apps_own("garden")) == ([promptvault.GARDEN], [])
    vault.rows(f"delete from PromptTag where promptId = '{promptvault.GARDEN}'")
    assert apps_own("water") == []
    vault.rows(f"delete from PromptVersion where promptId = '{promptvault.GARDEN}'")
    vault.rows(f"delete from Prompt where id = '{promptvault.GARDEN}'")
    assert apps_own("pond") == []
    vault.rows(
        "insert into Prompt (id, title, body, userId, updatedAt) select 'c1', 'A pond', 'x', id, 0 from User limit 1"
    )
    assert apps_own("pond") == ["c1"]
    assert run("search", "index", "check")["findings"] == []
    assert {finding["code"] for finding in run("integrity", "check")["findings"]} == {"times-mixed"}


@on_sqlite
def test_a_change_reads_no_more_of_the_index_than_its_own_row(run: Run, vault: Vault) -> None:
    run("search", "index", "repair")
    bodies = vault.rows("select sql from sqlite_master where type = 'trigger' and sql like '% begin %'")
    changes = [part.strip() for (sql,) in bodies for part in str(sql).split(" begin ")[1].split(";")]
    for sql in [one for one in changes if one.startswith(("delete", "update"))]:
        told = vault.rows("explain query plan " + re.sub(r'\b(?:old|new)\."\w+"', "'x'", sql))
        plan = [str(row[3]) for row in told]
        assert any("USING COVERING INDEX PromptSearch_pid (c0=?)" in step for step in plan), plan
        assert "SCAN PromptSearch VIRTUAL TABLE INDEX 0:" not in plan


@on_sqlite
def test_the_app_is_told_that_the_index_is_there_so_that_it_makes_none_over_it(
    run: Run, vault: Vault
) -> None:
    run("search", "index", "repair")
    assert vault.rows("select count(*) from _meta where key = 'FTS_APPLIED_V2' and value <> ''") == [(1,)]


@on_sqlite
def test_an_entry_that_does_not_agree_with_its_row_is_found_and_put_right(run: Run, vault: Vault) -> None:
    run("search", "index", "repair")
    vault.rows(f"update PromptSearch set title = 'stale' where pid = '{promptvault.NOTES}'")
    vault.rows(f"delete from PromptSearch where pid = '{promptvault.PARSER}'")
    vault.rows("insert into PromptSearch (pid, title) values ('gone', 'x'), (null, 'y')")
    vault.rows(f"insert into PromptSearch select * from PromptSearch where pid = '{promptvault.GARDEN}'")
    found = run("search", "index", "check", status=4)["findings"]
    assert {one["code"]: one["message"].split()[1] for one in found} == {
        "text-index-stale": "1", "text-index-missing": "1", "text-index-stray": "2", "text-index-duplicate": "1",
    }  # fmt: skip
    assert run("search", "index", "repair")["changed"]
    assert run("search", "index", "check")["findings"] == []


@on_sqlite
def test_a_trigger_that_is_gone_is_noticed(run: Run, vault: Vault) -> None:
    run("search", "index", "repair")
    vault.rows("drop trigger trg_prompt_au")
    assert [one["state"] for one in run("search", "index", "status")["items"]] == ["broken"]
    run("search", "index", "repair")
    assert [one["state"] for one in run("search", "index", "status")["items"]] == ["sound"]


@on_sqlite
@pytest.mark.parametrize("word", ["PUBLIC", "team", ""])
def test_a_visibility_that_the_app_cannot_read_is_given_to_no_prompt(run: Run, word: str) -> None:
    run("search", "index", "repair")  # with the triggers of the document no prompt can be changed
    told = run("data", "set", "Prompt", promptvault.NOTES, f"visibility={word}", status=6)
    assert told["code"] == "move-refused"
    assert run("data", "set", "Prompt", promptvault.NOTES, "visibility=PRIVATE")["changed"]


@on_sqlite
def test_a_visibility_that_the_app_cannot_read_is_mended(run: Run, vault: Vault) -> None:
    run("search", "index", "repair")
    vault.rows(f"update Prompt set visibility = 'PUBLIC' where id = '{promptvault.NOTES}'")
    assert run("data", "set", "Prompt", promptvault.NOTES, "visibility=TEAM")["changed"]


# Migrations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vault", [one for one in SHAPES if one != "deployed"], indirect=True)
def test_a_database_that_was_pushed_has_no_ledger_and_nothing_is_run_on_it(run: Run) -> None:
    assert run("migrate", "up", status=6)["code"] == "ledger-missing"


# Figures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["user-activity"], [["ben@example.org", 2, "2026-03-07T09:30:00.000Z"], ["ada@example.org", 1, "2026-03-05T09:30:00.000Z"], ["cleo@example.org", 0, None]]),
        (["popular-prompts"], [[promptvault.NOTES, "Summarize a meeting", 2, 4.5], [promptvault.PARSER, "Refactor the parser", 1, 3], [promptvault.GARDEN, "Plan a garden", 0, 0]]),
        (["tag-usage"], [["code", 1], ["garden", 0], ["work", 2]]),
        (["most-used-tags"], [["work", 2], ["code", 1]]),
        (["users-by-team"], [[promptvault.TEAM, "Research", 1], ["development", "development", 1]]),
        (["teams"], [[promptvault.TEAM, "Research", 1, "2026-03-02T09:30:00.000Z"]]),
        (["team-members", "--set", "team=Research"], [[promptvault.ADA, "ada@example.org", "Ada", "ADMIN"]]),
        (["team-members", "--set", "team=development"], [[promptvault.BEN, "ben@example.org", "Ben", "USER"]]),
        (["admin-users"], [[promptvault.ADA, "ada@example.org", "Ada", "2026-03-02T09:30:00.000Z"]]),
        (["prompts-by-user", "--set", "user=ada@example.org"], [[promptvault.NOTES, "Summarize a meeting", "TEAM", "2026-03-05T09:30:00.000Z"]]),
        (["team-prompts"], [[promptvault.GARDEN, "Plan a garden", "ben@example.org", "development", "2026-03-07T09:30:00.000Z"], [promptvault.NOTES, "Summarize a meeting", "ada@example.org", promptvault.TEAM, "2026-03-05T09:30:00.000Z"]]),
        (["public-prompts"], [[promptvault.NOTES, "Summarize a meeting", "ada@example.org", "share_k3j9x0q2a", "2026-03-05T09:30:00.000Z"]]),
    ],
)  # fmt: skip
def test_a_report_answers_what_the_document_asks(
    run: Run, words: list[str], answer: list[list[object]]
) -> None:
    assert [list(one.values()) for one in run("stats", "run", *words)["items"]] == answer


def test_a_found_prompt_has_every_column_of_its_table(run: Run, vault: Vault) -> None:
    (found,) = run("search", "prompts", "--filter", f"id={promptvault.NOTES}")["items"]
    assert set(found) >= {
        "id",
        "title",
        "body",
        "variables",
        "notes",
        "modelHints",
        "userId",
        "createdAt",
        "updatedAt",
    }
    assert [(found["body"],)] == vault.rows(
        f"""select "body" from "Prompt" where "id" = '{promptvault.NOTES}'"""
    )


# What should not be ------------------------------------------------------------------------------------------------


def agree_on_teams(vault: Vault) -> None:
    """Make the member of the team in ``UserTeam`` the user whose ``User.team`` names it."""
    vault.rows(f"""update "UserTeam" set "userId" = '{promptvault.ADA}'""")


def test_users_whose_two_teams_differ_are_found(run: Run, vault: Vault) -> None:
    (found,) = run("integrity", "cross-check")["findings"]
    assert (found["code"], found["severity"]) == ("flaw", "info")
    assert promptvault.ADA in found["message"]
    assert promptvault.BEN in found["message"]
    agree_on_teams(vault)
    assert run("integrity", "cross-check")["findings"] == []
    vault.rows(f"""update "User" set "team" = 'Research' where "id" = '{promptvault.ADA}'""")
    (found,) = run("integrity", "cross-check")["findings"]
    assert found["severity"] == "warning"
    assert promptvault.ADA in found["message"]
    run("users", "update", "ada@example.org", "--set", "team=Research")
    vault.rows("""delete from "UserTeam" """)  # nothing of the app writes it: then it says nothing
    assert run("integrity", "cross-check")["findings"] == []


def test_a_sound_deployment_has_no_findings(run: Run, vault: Vault) -> None:
    agree_on_teams(vault)
    assert run("integrity", "cross-check")["findings"] == []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("""update "Prompt" set "publicShareId" = null where "isPubliclyShared" = true""", promptvault.NOTES),
        (
            f"""update "Prompt" set "publicShareId" = 'x' where "id" = '{promptvault.GARDEN}'""",
            promptvault.GARDEN,
        ),
    ],
)
def test_rows_that_should_not_be_are_found(run: Run, vault: Vault, damage: str, told: str) -> None:
    usable(run, vault)
    agree_on_teams(vault)
    vault.rows(damage)
    findings = run("integrity", "cross-check")["findings"]
    assert [(one["code"], told in one["message"]) for one in findings] == [("flaw", True)]
    assert told in str(run("doctor")["findings"]) or run("doctor")["findings"] is None


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (f"update Prompt set createdAt = 'yesterday' where id = '{promptvault.GARDEN}'", "yesterday"),
        ("create table new_User (id text)", "new_User"),
    ],
)
@on_sqlite
def test_what_keeps_the_app_from_reading_is_an_error(run: Run, vault: Vault, damage: str, told: str) -> None:
    usable(run, vault)
    agree_on_teams(vault)
    vault.rows(damage)
    findings = run("integrity", "cross-check", status=4)["findings"]
    assert [(one["severity"], told in one["message"]) for one in findings] == [("error", True)]


@pytest.mark.parametrize(
    ("damage", "code", "severity"),
    [
        (
            f"update Prompt set visibility = 'PUBLIC' where id = '{promptvault.GARDEN}'",
            "value-unknown",
            "error",
        ),
        ("update User set role = 'SUPER' where name is null", "unknown-role", "error"),
        ("update Rating set value = 6 where value = 5", "value-unknown", "warning"),
    ],
)
@on_sqlite
def test_values_that_the_app_does_not_know_are_found(
    run: Run, vault: Vault, damage: str, code: str, severity: str
) -> None:
    usable(run, vault)
    vault.rows(damage)
    found = run("integrity", "check", status=4 if severity == "error" else 0)["findings"]
    broken = [finding for finding in found if finding["code"] != "times-mixed"]
    assert [(finding["code"], finding["severity"]) for finding in broken] == [(code, severity)]
    found = run("doctor", status=4 if severity == "error" else 0)["findings"]
    assert code in [finding["code"] for finding in found]


def test_the_account_that_the_server_makes_by_itself_is_known(run: Run, vault: Vault) -> None:
    hashed = bcrypt.hashpw(b"admin123", bcrypt.gensalt(4)).decode()
    vault.rows(
        f"""update "User" set "email" = 'admin@promptvault.local', "password" = '{hashed}' where "id" = '{promptvault.ADA}'"""
    )
    findings = run("doctor", status=4)["findings"]
    assert "known-login" in [one["code"] for one in findings]


@on_sqlite
def test_a_role_that_does_not_exist_is_shown_as_such(run: Run, vault: Vault) -> None:
    vault.rows("update User set role = 'SUPER' where name is null")
    assert run("users", "show", "cleo@example.org")["role"] == "(unknown: SUPER)"


# The file that is not the one --------------------------------------------------------------------------------------


def test_a_decoy_is_told_from_the_database_and_nothing_is_run_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = promptvault.decoy(tmp_path / "promptvault.db")
    run = runner(str(path), capsys)
    for words in (("users", "list"), ("migrate", "status"), ("migrate", "up")):
        error = run(*words, status=2)
        assert error["code"] == "wrong-app"
        assert "prisma/data/" in error["hint"]


def test_prompts_that_a_migration_left_in_another_table_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = promptvault.pushed(tmp_path / "promptvault.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute('alter table "Prompt" rename to "new_Prompt"')
    assert "new_Prompt" in runner(str(path), capsys)("users", "list", status=2)["hint"]


def test_two_users_whose_addresses_differ_in_case_are_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = promptvault.pushed(tmp_path / "promptvault.db")
    run = runner(str(path), capsys)
    run("users", "create", "Ben@example.org", "--generate")
    assert run("users", "show", "ben@example.org")["id"] == promptvault.BEN
    assert run("users", "show", "Ben@example.org")["id"] != promptvault.BEN


# Finding it ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "database", "others"),
    [
        ("file:./data/promptvault.db", "backend/prisma/data/promptvault.db", ["backend/data/promptvault.db"]),
        ("file:./data/promptvault.db", "backend/data/promptvault.db", []),
        ('"file:./vault.sqlite?connection_limit=1"', "backend/prisma/vault.sqlite", ["backend/vault.sqlite"]),
        ("file:/app/backend/data/promptvault.db", "backend/data/promptvault.db", []),
        ("", "backend/prisma/dev.db", ["backend/dev.db"]),
    ],
)
def test_the_database_is_looked_for_where_prisma_and_where_the_app_would_put_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: str, database: str, others: list[str]
) -> None:
    promptvault.pushed(tmp_path / database)
    for other in others:
        promptvault.decoy(tmp_path / other)
    if settings:
        (tmp_path / "backend" / ".env").write_text(f"JWT_SECRET=x\nDATABASE_URL={settings}\n")
    words = ["--config", str(tmp_path / "dbctl.toml"), "init", "promptvault", str(tmp_path)]
    assert main(words) == 0
    capsys.readouterr()
    assert f'main = "{database}"' in (tmp_path / "dbctl.toml").read_text()


def test_a_decoy_alone_is_no_database_and_that_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promptvault.decoy(tmp_path / "data" / "promptvault.db")
    assert main(["--config", str(tmp_path / "dbctl.toml"), "init", "promptvault", str(tmp_path)]) == 5
    assert "prisma/data/" in capsys.readouterr().err


def test_a_server_is_where_the_settings_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".env").write_text("DATABASE_URL=mysql://vault:s3cret@db.example.org:3306/vault\n")
    assert main(["--config", str(tmp_path / "dbctl.toml"), "init", "promptvault", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert "s3cret" not in told.out + told.err + (tmp_path / "dbctl.toml").read_text()


def test_what_a_user_has_is_counted(run: Run) -> None:
    assert run("stats", "user", "ben@example.org")["rows"] == {"Prompt": 2, "Rating": 2, "UserTeam": 1}


def test_users_are_exported_as_they_can_be_imported(run: Run, vault: Vault, tmp_path: Path) -> None:
    found = run("users", "export", "--secrets")["items"]
    file = tmp_path / "people.json"
    file.write_text(json.dumps([{**one, "email": f"new.{one['email']}"} for one in found]))
    run("users", "import", str(file))
    assert vault.rows('select count(*), count(distinct "password") from "User"') == [(6, 1)]
