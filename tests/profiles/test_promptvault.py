"""PromptVault: every feature on each variant and engine."""

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
from dbctl.url import parse_url
from tests import servers
from tests.shapes import promptvault
from tests.shapes.flashpoint_web import PASSWORD

#: Variants whose full-text index must be built or rebuilt for ranked results.
LITE = ("deployed", "pushed", "document")
VARIANTS = (*LITE, *(pytest.param(engine, marks=pytest.mark.slow) for engine in ("postgresql", "mysql")))
Run = Callable[..., Any]
on_sqlite = pytest.mark.parametrize("vault", LITE, indirect=True)


class Vault(Protocol):
    """A deployment of PromptVault."""

    variant: str
    url: str

    def rows(self, sql: str) -> list[tuple[Any, ...]]: ...


class FileDeployment:
    def __init__(self, variant: str, folder: Path) -> None:
        self.variant = variant
        self.path = getattr(promptvault, variant)(folder / "promptvault.db")
        self.url = str(self.path)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(sql).fetchall()


class ServerDeployment:
    def __init__(self, variant: str, url: str) -> None:
        self.variant, self.url = variant, url

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        if self.variant == "mysql":
            with closing(servers.mysql_connection(parse_url(self.url))) as mysql, mysql.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall())
        with closing(servers.connection(parse_url(self.url))) as connection:
            result = connection.execute(sql)
            return result.fetchall() if result.description else []


def open_deployments(variant: str, folder: Path) -> Iterator[Vault]:
    if variant in LITE or variant == "empty":
        yield FileDeployment(variant, folder)
    else:
        with getattr(promptvault, f"on_{variant}")() as url:
            yield ServerDeployment(variant, url)


@pytest.fixture(params=VARIANTS)
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vault]:
    yield from open_deployments(request.param, tmp_path)


@pytest.fixture
def run(vault: Vault, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command on the deployment and returns its data, or its error if the expected status is not 0."""
    return make_runner(vault.url, capsys)


def make_runner(url: str, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, status: int = 0, warnings: bool = False) -> Any:
        capsys.readouterr()
        exit_status = main(["--profile", "promptvault", "--url", f"main={url}", "-o", "json", *words])
        output = json.loads(capsys.readouterr().out)
        assert exit_status == status, output
        if warnings:
            return output["warnings"]
        return output["data"] if output["data"] is not None else output["error"]

    return run


def type_input(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


# The profile -------------------------------------------------------------------------------------------------------


def test_profile_and_database_agree(run: Run) -> None:
    assert run("apps", "check")["findings"] == []


# Users -------------------------------------------------------------------------------------------------------------


def test_users_are_read_with_times_in_any_format(run: Run) -> None:
    users = run("users", "list")["items"]
    assert [(user["email"], user["name"], user["role"], user["active"]) for user in users] == [
        ("ada@example.org", "Ada", "ADMIN", None),
        ("ben@example.org", "Ben", "USER", None),
        ("cleo@example.org", None, "USER", None),
    ]
    assert [user["created_at"] for user in users] == [f"2026-03-0{day}T09:30:00.000Z" for day in (2, 3, 4)], (
        "milliseconds, and a text that was inserted manually"
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
def test_users_are_filtered_by_team_id_name_or_text(run: Run, team: str, logins: list[str]) -> None:
    assert [user["email"] for user in run("users", "list", "--filter", f"team={team}")["items"]] == logins


def test_existing_team_is_stored_as_id_and_other_text_unchanged(run: Run, vault: Vault) -> None:
    for team in ("Research", "gardeners"):
        run("users", "update", "cleo@example.org", "--set", f"team={team}")
        stored = vault.rows(f"""select "team" from "User" where "id" = '{promptvault.CLEO}'""")
        assert stored == [(promptvault.TEAM if team == "Research" else team,)]


def test_new_user_is_stored_as_by_prisma(run: Run, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    type_input(monkeypatch, "a good password\n")
    result = run("users", "create", "dan@example.org", "--name", "Dan", "--password-stdin")
    key = result["user"]["id"]
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
    assert isinstance(created, int) == (vault.variant in LITE), (
        "no text, because Prisma cannot read every text"
    )


def test_added_rows_get_ids_as_by_prisma(run: Run, vault: Vault) -> None:
    plan = run("data", "add", "Tag", "name=new", "--dry-run")["plan"]
    assert "id (new)" in plan["steps"][0]
    first = run("data", "add", "Tag", "name=new")["key"]["id"]
    assert re.fullmatch("c[0-9a-z]{24}", first)
    assert vault.rows(f"""select "name" from "Tag" where "id" = '{first}'""") == [("new",)]
    assert run("data", "add", "Tag", "id=given", "name=other")["key"] == {"id": "given"}
    assert run("data", "add", "Team", "name=Design")["key"]["id"].startswith("c")


def test_user_is_shown_with_name_of_team_and_memberships(run: Run, vault: Vault) -> None:
    vault.rows("""delete from "UserTeam" """)
    user = run("users", "show", "ada@example.org")
    assert (user["team"], user["team_name"], user["teams"]) == (promptvault.TEAM, "Research", [])
    vault.rows(f"""insert into "UserTeam" values ('{promptvault.ADA}', '{promptvault.TEAM}')""")
    assert run("users", "show", "ada@example.org")["teams"] == ["Research"]
    ben = run("users", "show", "ben@example.org")  # a text that a user typed
    assert (ben["team"], ben["team_name"]) == ("development", None)


def test_new_ids_are_unique_and_ordered_by_time() -> None:
    make = KEYS["cuid"]
    assert make is not None
    keys = [make() for _ in range(50)]
    assert len(set(keys)) == 50
    assert [key[:9] for key in keys] == sorted(key[:9] for key in keys)


@pytest.mark.parametrize("password", ["short77", "ü" * 37])
def test_invalid_password_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    type_input(monkeypatch, f"{password}\n")
    error = run("users", "set-password", "ben@example.org", "--password-stdin", status=2)
    assert error["code"] == "value-invalid"
    assert password not in json.dumps(error)


def test_changed_password_warns_about_valid_cookies(run: Run) -> None:
    warnings = run("users", "set-password", "ben@example.org", "--generate", warnings=True)
    assert ["7 days" in warning for warning in warnings] == [True]
    warnings = run("users", "set-role", "ben@example.org", "ADMIN", warnings=True)
    assert ["7 days" in warning for warning in warnings] == [True]
    assert run("users", "update", "ben@example.org", "--name", "Benjamin", warnings=True) == []


def test_stored_password_is_checked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    type_input(monkeypatch, f"{PASSWORD}\n")
    assert run("users", "check-password", "ben@example.org", "--password-stdin")["matches"]


@pytest.mark.parametrize(
    "arguments", [("set-role", "ada@example.org", "USER"), ("delete", "ada@example.org", "--yes")]
)
def test_last_admin_cannot_be_removed(run: Run, vault: Vault, arguments: tuple[str, ...]) -> None:
    assert run("users", *arguments, status=6)["code"] == "last-admin"
    assert vault.rows('select count(*) from "User"') == [(3,)]


@pytest.mark.parametrize("word", ["activate", "deactivate"])
def test_deactivating_users_is_not_supported(run: Run, word: str) -> None:
    assert run("users", word, "ben@example.org", status=2)["code"] == "feature-missing"


def test_roles_are_listed_but_cannot_be_changed(run: Run) -> None:
    assert {role["name"]: role["users"] for role in run("roles", "list")["items"]} == {"ADMIN": 1, "USER": 2}
    assert run("roles", "create", "EDITOR", status=2)["code"] == "not-supported"


# Deleting ----------------------------------------------------------------------------------------------------------

COUNTED = ("User", "Prompt", "PromptVersion", "PromptTag", "Rating", "UserTeam")


def count_rows(vault: Vault) -> dict[str, int]:
    return {table: vault.rows(f'select count(*) from "{table}"')[0][0] for table in COUNTED}


def repair_triggers(run: Run, vault: Vault) -> None:
    """Repair the documented triggers, which prevent every change of a prompt."""
    if vault.variant == "document":
        run("search", "index", "repair")


def test_user_is_deleted_with_rows_in_foreign_key_order(run: Run, vault: Vault) -> None:
    repair_triggers(run, vault)
    plan = run("users", "delete", "ben@example.org", "--dry-run")["plan"]
    assert plan["rows"] == {
        "User": 1, "Rating": 2, "PromptTag": 2, "PromptVersion": 2, "Prompt": 2, "UserTeam": 1,
    }  # fmt: skip
    assert plan["destructive"]
    before = count_rows(vault)
    run("users", "delete", "ben@example.org", "--yes")
    assert {table: before[table] - remaining for table, remaining in count_rows(vault).items()} == plan[
        "rows"
    ]
    assert vault.rows('select "id" from "Prompt"') == [(promptvault.NOTES,)]


def test_rows_of_deleted_user_are_transferred(run: Run, vault: Vault) -> None:
    repair_triggers(run, vault)
    arguments = ("users", "delete", "ben@example.org", "--transfer-to", "cleo@example.org")
    plan = run(*arguments, "--dry-run")["plan"]
    assert plan["rows"] == {"User": 1, "Prompt": 2, "Rating": 2, "UserTeam": 1}
    result = run(*arguments, "--yes")
    assert result["transferred"] == {"Prompt": 2, "Rating": 2}
    assert count_rows(vault) == {
        "User": 2, "Prompt": 3, "PromptVersion": 4, "PromptTag": 3, "Rating": 3, "UserTeam": 0,
    }  # fmt: skip
    owners = vault.rows('select "userId", count(*) from "Prompt" group by "userId"')
    assert sorted(owners) == sorted([(promptvault.ADA, 1), (promptvault.CLEO, 2)])


def test_duplicate_rating_is_deleted_on_request(run: Run, vault: Vault) -> None:
    repair_triggers(run, vault)
    run("users", "set-role", "ben@example.org", "ADMIN")
    arguments = ("users", "delete", "ada@example.org", "--transfer-to", "ben@example.org", "--yes")
    assert run(*arguments, status=6)["code"] == "duplicate-rows"
    assert vault.rows('select count(*) from "Rating"') == [(3,)]
    result = run(*arguments, "--delete-duplicates")
    assert result["transferred"] == {"Prompt": 1}
    assert result["rows"] == {"User": 1, "Prompt": 1, "Rating": 1}
    assert vault.rows('select "value" from "Rating" order by "value"') == [(3,), (4,)]


@pytest.mark.parametrize(("new_owner", "status"), [("ben@example.org", 2), ("nobody@example.org", 5)])
def test_transfer_to_deleted_or_missing_user_is_refused(
    run: Run, vault: Vault, new_owner: str, status: int
) -> None:
    run("users", "delete", "ben@example.org", "--transfer-to", new_owner, "--yes", status=status)
    assert count_rows(vault)["User"] == 3


# Settings ----------------------------------------------------------------------------------------------------------


def test_column_setting_is_shown_set_and_reset(run: Run, vault: Vault) -> None:
    assert [
        (setting["key"], setting["value"], setting["type"]) for setting in run("settings", "list")["items"]
    ] == [("allowRegistration", True, "boolean")]
    run("settings", "set", "allowRegistration", "no")
    assert run("settings", "get", "allowRegistration")["value"] is False
    assert vault.rows('select "id", "allowRegistration" from "Settings"') == [(1, False)]
    run("settings", "reset", "allowRegistration")
    assert run("settings", "get", "allowRegistration")["value"] is True


def test_missing_settings_row_has_defaults_and_is_created_on_set(run: Run, vault: Vault) -> None:
    vault.rows('delete from "Settings"')
    assert run("settings", "get", "allowRegistration")["value"] is True
    run("settings", "set", "allowRegistration", "no")
    assert vault.rows('select "id", "allowRegistration" from "Settings"') == [(1, False)]


def test_setting_changes_all_duplicate_rows(run: Run, vault: Vault) -> None:
    vault.rows(
        """insert into "Settings" ("id", "allowRegistration", "updatedAt") select 2, true, "updatedAt" from "Settings" """
    )
    run("settings", "set", "allowRegistration", "no")
    assert vault.rows('select "allowRegistration" from "Settings"') == [(False,), (False,)]
    assert "settings" in str(run("integrity", "cross-check")["findings"])


def test_settings_are_exported_and_applied_and_unknown_ones_refused(run: Run, tmp_path: Path) -> None:
    assert run("settings", "export") == {"allowRegistration": True}
    file = tmp_path / "wanted.json"
    file.write_text('{"allowRegistration": false}')
    assert run("settings", "apply", str(file))["changed"] == ["allowRegistration"]
    assert run("settings", "validate")["findings"] == []
    file.write_text('{"colour": "red"}')
    assert "allowRegistration" in run("settings", "apply", str(file), status=2)["message"]
    file.write_text("{}")
    for words in (["--dry-run"], ["--yes"]):  # it is a column, which cannot be removed
        error = run("settings", "apply", str(file), "--mode", "exact", *words, status=2)
        assert "allowRegistration" in error["message"]


# Searching ---------------------------------------------------------------------------------------------------------


def list_ids(page: Any) -> list[str]:
    return [prompt["id"] for prompt in page["items"]]


#: Keys of filters, and the prompts that they select.
FILTERS = [
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
]


def test_prompts_are_filtered_by_every_key(run: Run) -> None:
    for arguments, expected in FILTERS:
        assert set(list_ids(run("search", "prompts", *arguments))) == expected, arguments


def test_prompt_is_shown_with_details(run: Run) -> None:
    prompt = run("search", "prompts", "--id", promptvault.NOTES)
    assert prompt["body"] == "List the decisions of a meeting, with owners."
    assert prompt["isPubliclyShared"] is True
    assert prompt["createdAt"] == "2026-03-05T09:30:00.000Z"
    assert [version["title"] for version in prompt["versions"]] == ["Summarize a meeting", "Summarize"]
    assert [rating["value"] for rating in prompt["ratings"]] == [4, 5]
    assert prompt["tags"] == ["work"]
    assert prompt["owner"][0]["email"] == "ada@example.org"


def test_search_without_index_works_with_warning(run: Run) -> None:
    assert list_ids(run("search", "prompts", "meeting")) == [promptvault.NOTES]
    output = run("search", "prompts", "meeting", warnings=True)
    assert ["search index" in warning for warning in output] == [True]
    assert run("search", "prompts", "--filter", "tag=work", warnings=True) == []


def test_index_ranks_results_and_returns_snippets(run: Run, vault: Vault) -> None:
    run("search", "index", "repair")
    assert run("search", "index", "status")["items"][0]["state"] == "valid"
    assert run("search", "index", "check")["findings"] == []
    (best,) = run("search", "prompts", "parser")["items"]
    assert best["id"] == promptvault.PARSER
    assert best["score"] > 0
    assert "parser" in best["snippet"].lower()
    assert run("search", "prompts", "parser", warnings=True) == []
    assert run("search", "prompts", "parser", "--count") == {"total": 1}
    assert list_ids(run("search", "prompts", "parser", "--filter", "tag=code", "--sort", "title")) == [
        promptvault.PARSER
    ]
    assert list_ids(run("search", "prompts", "parser", "--filter", "tag=garden")) == []
    assert list_ids(run("search", "prompts", "parser functions")) == [promptvault.PARSER]
    assert list_ids(run("search", "prompts", '"parser functions"')) == []
    assert list_ids(run("search", "prompts", "parser", "functions")) == [promptvault.PARSER]
    assert list_ids(run("search", "prompts", "--query", "parser -functions")) == []
    assert "parser" in str(run("search", "prompts", "parser", "--explain")["parameters"])


def test_words_are_not_interpreted_as_query_syntax(run: Run) -> None:
    run("search", "index", "repair")
    for word in ('"', "''", "*", "a OR b", "NEAR(", ":::", "-", "\\", "the"):
        run("search", "prompts", "--", word)


def test_characters_missing_in_index_match_literally(run: Run, vault: Vault) -> None:
    run("search", "index", "repair")
    vault.rows(f"""update "Prompt" set "title" = 'Learn C++ and more' where "id" = '{promptvault.GARDEN}'""")
    assert list_ids(run("search", "prompts", "C++")) == [promptvault.GARDEN]
    assert list_ids(run("search", "prompts", "C++", "more")) == [promptvault.GARDEN]
    assert list_ids(run("search", "prompts", "owners.")) == [promptvault.NOTES]


def test_index_is_dropped_and_built(run: Run) -> None:
    run("search", "index", "drop")
    assert run("search", "index", "status")["items"][0]["state"] == "missing"
    assert [finding["code"] for finding in run("search", "index", "check")["findings"]] == [
        "text-index-missing"
    ]
    assert run("search", "index", "build")["effect"]["verb"] == "built"
    assert not run("search", "index", "build")["changed"]
    assert not run("search", "index", "repair")["changed"]
    assert run("search", "index", "drop")["effect"]["verb"] == "dropped"


@pytest.mark.parametrize("vault", ["deployed", "document"], indirect=True)
def test_unusable_index_is_repaired(run: Run, vault: Vault) -> None:
    findings = run("search", "index", "check", status=4)["findings"]
    assert [finding["code"] for finding in findings] == ["text-index-broken"]
    assert run("search", "index", "build", status=6)["code"] == "already-exists"
    assert "text-index-broken" in [finding["code"] for finding in run("doctor")["findings"]]
    before = vault.rows("select name, sql from sqlite_master order by name")
    run("search", "index", "repair", "--dry-run")
    assert vault.rows("select name, sql from sqlite_master order by name") == before


@pytest.mark.parametrize("vault", ["pushed"], indirect=True)
def test_table_that_is_not_index_is_not_dropped(run: Run, vault: Vault) -> None:
    vault.rows("create table PromptSearch (pid text, kept text)")
    vault.rows("insert into PromptSearch values ('x', 'y')")
    for word in ("repair", "drop"):
        assert run("search", "index", word, status=6)["code"] == "text-index-foreign"
    assert vault.rows("select * from PromptSearch") == [("x", "y")]


@on_sqlite
def test_repaired_index_follows_changes_of_app(run: Run, vault: Vault) -> None:
    run("search", "index", "repair")

    def search_like_the_app(arguments: str) -> list[str]:
        sql = f"select p.id from PromptSearch s join Prompt p on p.id = s.pid where PromptSearch match '{arguments}'"
        return sorted(row[0] for row in vault.rows(sql))

    assert search_like_the_app("meeting") == [promptvault.NOTES], "the search of the app also works"
    vault.rows(f"update Prompt set title = 'Plan a pond' where id = '{promptvault.GARDEN}'")
    assert (search_like_the_app("pond"), search_like_the_app("garden")) == ([promptvault.GARDEN], [])
    vault.rows(f"insert into PromptTag values ('{promptvault.GARDEN}', 'cm8taggarden0000000000000')")
    assert search_like_the_app("garden") == [promptvault.GARDEN]
    vault.rows("update Tag set name = 'water' where name = 'garden'")
    assert (search_like_the_app("water"), search_like_the_app("garden")) == ([promptvault.GARDEN], [])
    vault.rows(f"delete from PromptTag where promptId = '{promptvault.GARDEN}'")
    assert search_like_the_app("water") == []
    vault.rows(f"delete from PromptVersion where promptId = '{promptvault.GARDEN}'")
    vault.rows(f"delete from Prompt where id = '{promptvault.GARDEN}'")
    assert search_like_the_app("pond") == []
    vault.rows(
        "insert into Prompt (id, title, body, userId, updatedAt) select 'c1', 'A pond', 'x', id, 0 from User limit 1"
    )
    assert search_like_the_app("pond") == ["c1"]
    assert run("search", "index", "check")["findings"] == []
    assert {finding["code"] for finding in run("integrity", "check")["findings"]} == {"times-mixed"}


@on_sqlite
def test_update_reads_only_its_own_index_row(run: Run, vault: Vault) -> None:
    run("search", "index", "repair")
    bodies = vault.rows("select sql from sqlite_master where type = 'trigger' and sql like '% begin %'")
    changes = [part.strip() for (sql,) in bodies for part in str(sql).split(" begin ")[1].split(";")]
    for sql in [item for item in changes if item.startswith(("delete", "update"))]:
        result = vault.rows("explain query plan " + re.sub(r'\b(?:old|new)\."\w+"', "'x'", sql))
        plan = [str(row[3]) for row in result]
        assert any("USING COVERING INDEX PromptSearch_pid (c0=?)" in step for step in plan), plan
        assert "SCAN PromptSearch VIRTUAL TABLE INDEX 0:" not in plan


@on_sqlite
def test_index_mark_prevents_app_from_creating_index(run: Run, vault: Vault) -> None:
    run("search", "index", "repair")
    assert vault.rows("select count(*) from _meta where key = 'FTS_APPLIED_V2' and value <> ''") == [(1,)]


@on_sqlite
def test_stale_index_entry_is_reported_and_repaired(run: Run, vault: Vault) -> None:
    run("search", "index", "repair")
    vault.rows(f"update PromptSearch set title = 'stale' where pid = '{promptvault.NOTES}'")
    vault.rows(f"delete from PromptSearch where pid = '{promptvault.PARSER}'")
    vault.rows("insert into PromptSearch (pid, title) values ('gone', 'x'), (null, 'y')")
    vault.rows(f"insert into PromptSearch select * from PromptSearch where pid = '{promptvault.GARDEN}'")
    findings = run("search", "index", "check", status=4)["findings"]
    assert {finding["code"]: finding["message"].split()[1] for finding in findings} == {
        "text-index-stale": "1", "text-index-missing": "1", "text-index-stray": "2", "text-index-duplicate": "1",
    }  # fmt: skip
    assert run("search", "index", "repair")["changed"]
    assert run("search", "index", "check")["findings"] == []


@on_sqlite
def test_row_that_replace_left_twice_in_the_index_is_one_result(run: Run, vault: Vault) -> None:
    run("search", "index", "repair")
    vault.rows(
        f"""insert or replace into "Prompt" select * from "Prompt" where "id" = '{promptvault.PARSER}'"""
    )
    assert vault.rows(f"select count(*) from PromptSearch where pid = '{promptvault.PARSER}'") == [(2,)]
    assert list_ids(run("search", "prompts", "parser")) == [promptvault.PARSER]
    assert run("search", "prompts", "parser", "--count") == {"total": 1}


@on_sqlite
def test_missing_trigger_is_reported(run: Run, vault: Vault) -> None:
    run("search", "index", "repair")
    vault.rows("drop trigger trg_prompt_au")
    assert [finding["state"] for finding in run("search", "index", "status")["items"]] == ["broken"]
    run("search", "index", "repair")
    assert [finding["state"] for finding in run("search", "index", "status")["items"]] == ["valid"]


@on_sqlite
@pytest.mark.parametrize("word", ["PUBLIC", "team", ""])
def test_invalid_visibility_is_refused(run: Run, word: str) -> None:
    run("search", "index", "repair")  # the documented triggers prevent every change of a prompt
    result = run("data", "set", "Prompt", promptvault.NOTES, f"visibility={word}", status=6)
    assert result["code"] == "transition-refused"
    assert run("data", "set", "Prompt", promptvault.NOTES, "visibility=PRIVATE")["changed"]


@on_sqlite
def test_invalid_visibility_is_repaired(run: Run, vault: Vault) -> None:
    run("search", "index", "repair")
    vault.rows(f"update Prompt set visibility = 'PUBLIC' where id = '{promptvault.NOTES}'")
    assert run("data", "set", "Prompt", promptvault.NOTES, "visibility=TEAM")["changed"]


# Migrations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vault", [variant for variant in VARIANTS if variant != "deployed"], indirect=True)
def test_pushed_database_without_ledger_is_not_migrated(run: Run) -> None:
    assert run("migrate", "up", status=6)["code"] == "ledger-missing"


# Statistics --------------------------------------------------------------------------------------------------------


#: Reports of the profile with their arguments, and the rows of the sample.
REPORTS: list[tuple[list[str], list[list[object]]]] = [
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
]  # fmt: skip


def test_report_returns_documented_result(run: Run) -> None:
    for arguments, answer in REPORTS:
        assert [list(row.values()) for row in run("stats", "run", *arguments)["items"]] == answer, arguments


def test_prompt_search_returns_all_columns(run: Run, vault: Vault) -> None:
    (item,) = run("search", "prompts", "--filter", f"id={promptvault.NOTES}")["items"]
    assert set(item) >= {
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
    assert [(item["body"],)] == vault.rows(
        f"""select "body" from "Prompt" where "id" = '{promptvault.NOTES}'"""
    )


# Invariants --------------------------------------------------------------------------------------------------------


def align_teams(vault: Vault) -> None:
    """Set ``UserTeam`` to the teams in ``User.team``."""
    vault.rows(f"""update "UserTeam" set "userId" = '{promptvault.ADA}'""")


def test_users_with_different_teams_are_reported(run: Run, vault: Vault) -> None:
    (finding,) = run("integrity", "cross-check")["findings"]
    assert (finding["code"], finding["severity"]) == ("invariant-violated", "info")
    assert promptvault.ADA in finding["message"]
    assert promptvault.BEN in finding["message"]
    align_teams(vault)
    assert run("integrity", "cross-check")["findings"] == []
    for spelling in (
        "Research",
        "RESEARCH",
    ):  # one answer on engines that compare names exactly, and on others
        vault.rows(f"""update "User" set "team" = '{spelling}' where "id" = '{promptvault.ADA}'""")
        (finding,) = run("integrity", "cross-check")["findings"]
        assert finding["severity"] == "warning"
        assert promptvault.ADA in finding["message"]
    run("users", "update", "ada@example.org", "--set", "team=Research")
    vault.rows("""delete from "UserTeam" """)  # the app never writes this table, so an empty one is valid
    assert run("integrity", "cross-check")["findings"] == []


def test_valid_deployment_has_no_findings(run: Run, vault: Vault) -> None:
    align_teams(vault)
    assert run("integrity", "cross-check")["findings"] == []


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("""update "Prompt" set "publicShareId" = null where "isPubliclyShared" = true""", promptvault.NOTES),
        (
            f"""update "Prompt" set "publicShareId" = 'x' where "id" = '{promptvault.GARDEN}'""",
            promptvault.GARDEN,
        ),
    ],
)
def test_invariant_violations_are_reported(run: Run, vault: Vault, damage: str, expected: str) -> None:
    repair_triggers(run, vault)
    align_teams(vault)
    vault.rows(damage)
    findings = run("integrity", "cross-check")["findings"]
    assert [(finding["code"], expected in finding["message"]) for finding in findings] == [
        ("invariant-violated", True)
    ]
    assert expected in str(run("doctor")["findings"]) or run("doctor")["findings"] is None


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (f"update Prompt set createdAt = 'yesterday' where id = '{promptvault.GARDEN}'", "yesterday"),
        ("create table new_User (id text)", "new_User"),
    ],
)
@on_sqlite
def test_unreadable_rows_are_errors(run: Run, vault: Vault, damage: str, expected: str) -> None:
    repair_triggers(run, vault)
    align_teams(vault)
    vault.rows(damage)
    findings = run("integrity", "cross-check", status=4)["findings"]
    assert [(finding["severity"], expected in finding["message"]) for finding in findings] == [
        ("error", True)
    ]


@pytest.mark.parametrize(
    ("damage", "code", "severity"),
    [
        (
            f"update Prompt set visibility = 'PUBLIC' where id = '{promptvault.GARDEN}'",
            "value-unknown",
            "error",
        ),
        ("update User set role = 'SUPER' where name is null", "role-unknown", "error"),
        ("update Rating set value = 6 where value = 5", "value-unknown", "warning"),
    ],
)
@on_sqlite
def test_invalid_values_are_reported(run: Run, vault: Vault, damage: str, code: str, severity: str) -> None:
    repair_triggers(run, vault)
    vault.rows(damage)
    findings = run("integrity", "check", status=4 if severity == "error" else 0)["findings"]
    broken = [finding for finding in findings if finding["code"] != "times-mixed"]
    assert [(finding["code"], finding["severity"]) for finding in broken] == [(code, severity)]
    findings = run("doctor", status=4 if severity == "error" else 0)["findings"]
    assert code in [finding["code"] for finding in findings]


@pytest.mark.parametrize("vault", ["document"], indirect=True)
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("update User set role = null where name is null", "users without a role"),
        (
            f"update Prompt set visibility = null where id = '{promptvault.GARDEN}'",
            "prompts without a visibility",
        ),
    ],
)
def test_missing_role_and_visibility_are_reported(run: Run, vault: Vault, damage: str, expected: str) -> None:
    repair_triggers(run, vault)
    vault.rows(damage)
    for command, code in ((["integrity", "cross-check"], 4), (["doctor"], 4)):
        findings = run(*command, status=code)["findings"]
        assert [item["severity"] for item in findings if expected in item["message"]] == ["error"]


def test_default_account_with_known_password_is_reported(run: Run, vault: Vault) -> None:
    hashed = bcrypt.hashpw(b"admin123", bcrypt.gensalt(4)).decode()
    vault.rows(
        f"""update "User" set "email" = 'admin@promptvault.local', "password" = '{hashed}' where "id" = '{promptvault.ADA}'"""
    )
    findings = run("doctor", status=4)["findings"]
    assert "known-login" in [finding["code"] for finding in findings]


@on_sqlite
def test_unknown_role_is_shown_as_unknown(run: Run, vault: Vault) -> None:
    vault.rows("update User set role = 'SUPER' where name is null")
    assert run("users", "show", "cleo@example.org")["role"] == "(unknown: SUPER)"


# Wrong database files ----------------------------------------------------------------------------------------------


def test_search_database_of_app_is_recognised_and_not_migrated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = promptvault.decoy(tmp_path / "promptvault.db")
    run = make_runner(str(path), capsys)
    for arguments in (("users", "list"), ("migrate", "status"), ("migrate", "up")):
        error = run(*arguments, status=2)
        assert error["code"] == "wrong-app"
        assert "prisma/data/" in error["hint"]


def test_interrupted_table_rebuild_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = promptvault.pushed(tmp_path / "promptvault.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute('alter table "Prompt" rename to "new_Prompt"')
    assert "new_Prompt" in make_runner(str(path), capsys)("users", "list", status=2)["hint"]


def test_emails_that_differ_in_case_are_different_users(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = promptvault.pushed(tmp_path / "promptvault.db")
    run = make_runner(str(path), capsys)
    run("users", "create", "Ben@example.org", "--generate")
    assert run("users", "show", "ben@example.org")["id"] == promptvault.BEN
    assert run("users", "show", "Ben@example.org")["id"] != promptvault.BEN


# Init --------------------------------------------------------------------------------------------------------------


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
def test_init_searches_paths_of_prisma_and_app(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: str, database: str, others: list[str]
) -> None:
    promptvault.pushed(tmp_path / database)
    for other in others:
        promptvault.decoy(tmp_path / other)
    if settings:
        (tmp_path / "backend" / ".env").write_text(f"JWT_SECRET=x\nDATABASE_URL={settings}\n")
    arguments = ["--config", str(tmp_path / "dbctl.toml"), "init", "promptvault", str(tmp_path)]
    assert main(arguments) == 0
    capsys.readouterr()
    assert f'main = "{database}"' in (tmp_path / "dbctl.toml").read_text()


def test_init_explains_rejected_search_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    promptvault.decoy(tmp_path / "data" / "promptvault.db")
    assert main(["--config", str(tmp_path / "dbctl.toml"), "init", "promptvault", str(tmp_path)]) == 5
    assert "prisma/data/" in capsys.readouterr().err


def test_init_reads_server_url_from_env_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".env").write_text("DATABASE_URL=mysql://vault:s3cret@db.example.org:3306/vault\n")
    assert main(["--config", str(tmp_path / "dbctl.toml"), "init", "promptvault", str(tmp_path)]) == 0
    result = capsys.readouterr()
    assert "s3cret" not in result.out + result.err + (tmp_path / "dbctl.toml").read_text()


def test_rows_of_user_are_counted(run: Run) -> None:
    assert run("stats", "user", "ben@example.org")["rows"] == {"Prompt": 2, "Rating": 2, "UserTeam": 1}


def test_exported_users_can_be_imported(run: Run, vault: Vault, tmp_path: Path) -> None:
    users = run("users", "export", "--secrets")["items"]
    file = tmp_path / "people.json"
    file.write_text(json.dumps([{**user, "email": f"new.{user['email']}"} for user in users]))
    run("users", "import", str(file))
    assert vault.rows('select count(*), count(distinct "password") from "User"') == [(6, 1)]
