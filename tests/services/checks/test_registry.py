"""The registry of checks: each belongs to a command, an error is a finding, and a database is opened and sampled once."""

from __future__ import annotations

import re
import shutil
import sqlite3
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path

import pytest
from msgspec import structs

import dbctl
from dbctl.config.sections import Selection
from dbctl.errors.backup import SchemaOnlyUnknownError
from dbctl.errors.connection import BusyError, ClientMissingError
from dbctl.errors.migrations import MigrationsMissingError
from dbctl.services.app.evidence.subjects import Check, Subject
from dbctl.services.app.session import open_app
from dbctl.services.checks import base
from dbctl.services.checks.base import SETS, CheckRun, list_subjects, load_checks
from tests.services import larder_app

PACKAGE = Path(base.__file__).parent
CODES = tomllib.loads((Path(dbctl.__file__).parent / "render/codes.toml").read_text())
#: The files that this process has opened with SQLite, while a test counts them.
_opened: list[str] = []
sys.addaudithook(
    lambda event, arguments: _opened.append(str(arguments[0])) if event == "sqlite3.connect" else None
)


@pytest.fixture
def larder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    larder_app.larder_db(tmp_path / "larder.db")
    larder_app.configure(tmp_path, "larder.db")
    return Selection(config="dbctl.toml")


def list_checks(module) -> list[Check]:
    values = [value for value in vars(module).values() if isinstance(value, Check | tuple)]
    flat = [entry for value in values for entry in (value if isinstance(value, tuple) else [value])]
    return [entry for entry in flat if isinstance(entry, Check)]


def test_each_check_belongs_to_a_set():
    used = [check for name in SETS for check in load_checks(name)]
    modules = [import_module(f"dbctl.services.checks.{path.stem}") for path in sorted(PACKAGE.glob("*.py"))]
    declared = [check for module in modules for check in list_checks(module)]
    assert len(declared) > 40
    assert [check.code for check in declared if check not in used] == []


def test_each_set_has_a_command_that_reports_its_findings(larder, answer):
    assert set(SETS) == {"doctor", "configuration", "integrity", "cross-check", "profile"}
    with sqlite3.connect("larder.db") as connection:
        connection.execute("update members set secret_hash = 'plain'")
    codes = {
        " ".join(command): {finding["code"] for finding in answer(*command, status=None)["data"]["findings"]}
        for command in (["doctor"], ["integrity", "check"], ["apps", "check"])
    }
    assert "password-not-hashed" in codes["doctor"] & codes["integrity check"]
    assert "password-format" in codes["apps check"]


def test_codes_of_checks_are_documented():
    documented = {
        code for subject in CODES["subject"] for entry in subject["entries"] for code in entry["codes"]
    }
    codes = {check.code for name in SETS for check in load_checks(name)}
    errors = ClientMissingError, MigrationsMissingError, SchemaOnlyUnknownError
    assert codes - documented == {error.code for error in errors}


@pytest.mark.parametrize("name", ["doctor", "integrity", "profile"])
def test_each_check_that_fails_becomes_a_finding(larder, name):
    def fail(subject: object) -> Iterator[None]:
        raise BusyError(target="x", holder="", waited=0)
        yield

    with open_app(larder, timeout=1) as app:
        for check in load_checks(name):
            for part in list_subjects(Subject(app, selection=larder), check.scope):
                run = CheckRun()
                run.run_group([structs.replace(check, run=fail)], part)
                assert [(finding.target, finding.code) for finding in run.findings] == [(part.target, "busy")]
                assert run.status == BusyError.exit_status
                assert not run.checked


def test_doctor_opens_a_database_once(larder):
    from dbctl.services.checks.run import examine

    _opened.clear()
    report = examine([larder], timeout=1)
    assert report.findings.checked > 10
    # a stream of all rows opens the file again, with locks
    assert Counter("immutable=1" in path for path in _opened if "larder.db" in path) == {True: 1, False: 1}


@pytest.mark.parametrize("name", ["doctor", "profile"])
def test_table_is_sampled_once(larder, name):
    statements = list[str]()
    with open_app(larder, timeout=1) as app:
        app.reader("pantry").connection.driver.set_trace_callback(statements.append)
        run = CheckRun()
        run.run(name, Subject(app, selection=larder))
        assert run.failures == []
    tables = Counter(
        re.search(r'from "?(\w+)', sql).group(1) for sql in statements if "desc limit 50)" in sql
    )
    assert (tables["members"] == 1) == (name == "profile")
    # the passwords are sampled with a condition
    assert {table: count for table, count in tables.items() if count > 1} == {}


def test_error_of_one_check_does_not_end_the_others(larder, answer):
    with closing(sqlite3.connect("larder.db")) as connection, connection:
        connection.execute("update members set secret_hash = 'plain'")
        query = "select rootpage, page_size from sqlite_master, pragma_page_size where name = 'options'"
        ((page, size),) = connection.execute(query).fetchall()
    with Path("larder.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 200)
    findings = answer("apps", "check", status=4)["data"]["findings"]
    assert Counter(finding["code"] for finding in findings) == {"corrupt": 1, "password-format": 1}
    codes = {finding["code"] for finding in answer("doctor", status=None)["data"]["findings"]}
    assert codes >= {"corrupt", "backup-due"}


@pytest.mark.needs_extension("demo", "lancedb")
def test_table_whose_files_are_missing_is_damage_and_no_unreadable_table(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    answer("demo", "chat-lancedb", ".")
    for data in tmp_path.glob("data/lancedb/*.lance/data"):
        shutil.rmtree(data)
    for words in (("apps", "check"), ("integrity", "check"), ("integrity", "check", "--quick")):
        findings = answer(*words, status=4)["data"]["findings"]
        assert [
            (item["severity"], item["code"]) for item in findings if item["target"].endswith("vectors")
        ] == [("error", "corrupt")]
