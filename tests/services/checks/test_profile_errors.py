"""Profiles that name nothing, contradict themselves or would show a secret are refused, with the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbctl.profiles import loader
from dbctl.services.checks.profile import find_text_problems
from tests.databases import empty_database

PROFILE = """\
schema = "dbctl.profile/1"
name = "club"
title = "Club"
[databases.main]
engines = ["sqlite"]
secret = ["conf.smtp?"]
[users]
table = "people"
id = {{ column = "id" }}
login = ["login"]
admin = false
fields = {{ login = "login" }}
{sections}
"""
ROW = '[[settings]]\nscope = "system"\ntable = "conf"\nfields = {}\nrow = { key = "id", value = 1, types = { smtp = "string" } }\n'
PAIRS = '[[settings]]\nscope = "system"\ntable = "conf"\nkey = "name"\nfields = { value = "smtp" }\n'


@pytest.mark.parametrize("section", [ROW, PAIRS])
def test_settings_in_a_secret_column_are_secret(section):
    for secret, expected in (("", ["settings[0].secret"]), ('secret = ["smtp*"]\n', [])):
        text = PROFILE.format(sections=section + secret)
        assert [problem.key for problem in find_text_problems(text)] == expected


def test_text_of_true_differs_from_that_of_false():
    text = PROFILE.replace("conf.smtp?", "other.smtp").format(sections=f'{PAIRS}true = "1"\nfalse = "1"')
    assert [problem.key for problem in find_text_problems(text)] == ["settings[0].true"]


def test_profiles_of_dbctl_have_no_errors():
    paths = list(Path(loader.__file__).with_name("builtin").glob("*.toml"))
    assert len(paths) > 20
    assert [(path.name, problem) for path in paths for problem in find_text_problems(path.read_text())] == []


def test_invariant_has_a_query():
    text = PROFILE.format(sections='[[invariant]]\nname = "lost rows"\nvariant = [{ needs = ["people"] }]')
    assert [problem.key for problem in find_text_problems(text)] == ["invariant[0].variant"]
    one_schema = text.replace("}]", '}, { needs = ["visits"], sql = "select 1" }]')
    assert [*find_text_problems(one_schema)] == []


@pytest.mark.parametrize(("right", "key"), [('"people"', "users.table"), ('{ column = "id"', "users.id")])
def test_check_reports_an_empty_name(answer, tmp_path, right, key):
    wrong = '{ column = ""' if "column" in right else '""'
    (tmp_path / "club.toml").write_text(PROFILE.format(sections="").replace(right, wrong))
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run("create table people (id integer primary key, login text)")
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        (finding,) = answer("apps", "check", *options, status=4)["data"]["findings"]
        assert finding["code"] == "schema-mismatch"
        assert f"{key})" in finding["message"]


def test_secret_columns_are_neither_searched_nor_shown():
    shown = 'table = "conf"\nid = "id"\nwords = ["smtp"]\nshow = ["id", "smtp"]\nsort = [{ name = "id", columns = ["id"] }]'
    sections = f'[users.statistics]\ntable = "conf"\nuser = "id"\ncolumns = ["smtp"]\n[[search]]\nname = "conf"\ndatabase = "main"\n{shown}'
    problems = {problem.key for problem in find_text_problems(PROFILE.format(sections=sections))}
    assert problems == {"users.statistics.columns", "search[0].words", "search[0].show"}


def test_list_of_values_is_not_empty():
    text = PROFILE.format(sections='[[values]]\ntable = "people"\ncolumn = "login"')
    assert [problem.key for problem in find_text_problems(text)] == ["values[0]"]


def test_field_of_the_audit_log_is_known():
    text = PROFILE.format(sections='[audit]\ntable = "log"\nfields = { at = "at", detail = "details" }')
    (problem,) = find_text_problems(text)
    assert problem.key == "audit.fields.detail"
    assert "details" in problem.reason


def test_search_without_the_column_of_its_words_is_refused(answer, tmp_path):
    shown = 'table = "people"\nid = "id"\nwords = ["titel"]\nshow = ["id"]\nsort = [{ name = "id", columns = ["id"] }]'
    (tmp_path / "club.toml").write_text(
        PROFILE.format(sections=f'[[search]]\nname = "people"\ndatabase = "main"\n{shown}')
    )
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run("create table people (id integer primary key, login text)")
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        error = answer("search", "people", "ida", *options, status=2)["error"]
        assert error["code"] == "schema-mismatch"


@pytest.mark.parametrize("pragma", ['synchronus = "full"', 'synchronous = "fulll"'])
def test_pragma_that_sqlite_would_ignore_is_refused(answer, tmp_path, pragma):
    text = PROFILE.replace("[users]", "pragmas = {{ " + pragma + " }}\n[users]").format(sections="")
    (tmp_path / "club.toml").write_text(text)
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(
            "create table people (id integer primary key, login text)", "insert into people values (1, 'ida')"
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        error = answer("users", "update", "ida", "--set", "login=bo", *options, status=2)["error"]
        assert pragma.partition(" ")[0] in error["message"]
        assert database.rows("select login from people") == [("ida",)]
