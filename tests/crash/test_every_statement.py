"""Every writing command of the examples is killed before each statement of SQLite, and before each call that changes a folder."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections import Counter
from contextlib import chdir, closing
from itertools import count

import pytest

from dbctl.cli.main import main
from dbctl.services.events.changes.operations import OperationFilter, list_operations
from dbctl.services.events.changes.verify import verify_log
from tests.cli import larders, test_reference
from tests.crash.figures import choose_steps
from tests.examples import copy_deployment
from tests.in_process import CLEAN_ENVIRONMENT, run_command
from tests.services.events.kills import run_killed
from tools import reference

#: Of the steps of a command, every ``STRIDE`` th is a kill for each commit. A command that changes one row has the shortest, and a
#: restore, which has over a thousand steps, the longest.
STRIDE = 31
STRIDES = {"data set {table} {row} {change}": 4, "restore apply": 97, "restore undo": 97}
#: Commands of several transactions, each of which is complete or missing.
GRADUAL = ("sessions cleanup", "migrate ", "transfer run", "restore apply latest --to", "search index")
#: Commands that replace the database, and then add their record, with the id of a backup, to the app's own records.
REPLACING = ("restore apply", "restore undo")
RECORDS = ("activity_logs", "history", "sqlite_sequence")
#: Exit codes of a command that is repeated although its change is complete: nothing to do, refused lines of an import, not found,
#: refused by a rule.
REPEATED = {0, 2, 5, 6}


def list_lines():
    """Return the examples that write and succeed: of each command with the same options one, and a restore of two databases."""
    forms, lines = set(), []
    for name, examples, get_status in (
        ("larder", larders.EXAMPLES, larders.expected_status),
        ("arcade", test_reference.EXAMPLES, lambda line: test_reference.EXAMPLES[line].status),
    ):
        for line in examples:
            if not reference.find_spec(line).writes or "--dry-run" in line or get_status(line):
                continue
            form = reference.find_spec(line).name, *(word for word in line.split() if word.startswith("--"))
            if form not in forms or (name, line) == ("arcade", "restore apply latest --yes"):
                forms.add(form)
                lines.append(pytest.param(name, line, id=f"{name}: {line}"))
    return lines


def choose_stride(line):
    return next((stride for begin, stride in STRIDES.items() if line.startswith(begin)), STRIDE)


class Larder:
    """Deployments of an app with a custom profile."""

    def __init__(self, folder):
        deployments = larders.create_deployments("sqlite", folder)
        self.folder, self._needs = folder / "copy", larders.list_needs
        with deployments.deploy(self.folder, ""):
            pass

    def split_line(self, line, _folder):
        return larders.split_line(line, "--url pantry=larder.db")

    def list_needs(self, line):
        return larders.list_needs(line)


class Arcade:
    """Deployments of a sample of Flashpoint Web."""

    def __init__(self, folder):
        self.folder = test_reference.create_deployment(folder / "document")

    def split_line(self, line, folder):
        return test_reference.split_line(line, folder)

    def list_needs(self, line):
        examples = test_reference.EXAMPLES
        return [needed for needed in examples[line].needs if needed in examples]


APPS = {"larder": Larder, "arcade": Arcade}


@pytest.fixture(scope="module")
def apps(tmp_path_factory):
    """Return a function that creates the deployment of an app once."""
    created = {}

    def create(name):
        if name not in created:
            created[name] = APPS[name](tmp_path_factory.mktemp(name))
        return created[name]

    return create


#: Columns with a duration in milliseconds, in which the two runs that find the variable columns may agree by chance: the time of a
#: migration in the ledger of Flashpoint Web.
DURATIONS = {"migrations": {4}}


class Case:
    """A command, the folder in which it runs, and the rows before and after it."""

    def __init__(self, app, line, folder):
        self._folder, self.template = folder, folder / "template" / app.folder.name
        copy_deployment(app.folder, self.template)
        self._folders = count(1)
        self.words = app.split_line(line, self.template)
        for needed in [*app.list_needs(line), "runs list"]:
            self.run(self.template, app.split_line(needed, self.template))
        self.before = read_rows(self.template)
        self.operations = len(read_operations(self.template))
        self._skipped = RECORDS if line.startswith(REPLACING) else ()
        self._hidden = {}
        self.repeated = set()  #: the states of files after which the command was repeated
        copies = [self.copy(), self.copy()]
        self.status, self.after = self.run(copies[0], self.words), read_rows(copies[0])
        time.sleep(-time.time() % 1)  # ids of backups and times differ from second to second
        self.run(copies[1], self.words)
        other = read_rows(copies[1])
        #: columns whose values depend on time and chance: their number in each table
        self._hidden = find_differences(self.after, other)
        for table, numbers in DURATIONS.items():
            self._hidden[table] = {*self._hidden.get(table, ()), *numbers}

    def copy(self):
        """Return a new copy of the folder."""
        target = self._folder / str(next(self._folders)) / self.template.name
        copy_deployment(self.template, target)
        return target

    def run(self, folder, words):
        return run_command(words, environment=create_environment(folder), cwd=folder).returncode

    def is_equal(self, rows, others):
        return not self.list_differences(rows, others)

    def list_differences(self, rows, others):
        """Return the tables in which states differ."""
        rows, others = self._hide(rows), self._hide(others)
        return sorted(name for name in {*rows, *others} if rows.get(name) != others.get(name))

    def _hide(self, rows):
        return {
            table: Counter(
                tuple(value for number, value in enumerate(row) if number not in self._hidden.get(table, ()))
                for row in content
            )
            for table, content in rows.items()
            if table not in self._skipped
        }


def create_environment(folder):
    return CLEAN_ENVIRONMENT | {"DBCTL_STATE": str(folder / "state"), "HOME": str(folder), "EDITOR": "true"}


def find_databases(folder):
    return [path for name in ("larder.db", "backend/user.db") if (path := folder / name).exists()]


def read_rows(folder):
    """Return the rows of each table of the app's databases, which must be intact."""
    tables = {}
    for path in find_databases(folder):
        with closing(sqlite3.connect(path)) as connection:
            connection.text_factory = bytes
            assert connection.execute("pragma integrity_check").fetchall() == [(b"ok",)]
            assert connection.execute("pragma foreign_key_check").fetchall() == []
            names = connection.execute(
                "select name from sqlite_master where type = 'table' and sql not like 'create virtual%'"
            ).fetchall()
            for (name,) in names:
                tables[name.decode()] = connection.execute(f'select * from "{name.decode()}"').fetchall()
    return tables


def find_differences(rows, others):
    """Return the numbers of the columns in which the results of two runs differ, by table."""
    return {
        table: {
            number
            for number in range(len(rows[table][0]))
            if Counter(row[number] for row in rows[table]) != Counter(row[number] for row in others[table])
        }
        for table in rows
        if rows[table] and len(rows[table]) == len(others.get(table, ()))
    }


def read_operations(folder):
    return list_operations(folder / "state", OperationFilter(limit=10_000)).items


def describe_files(folder):
    """Return the sizes of all files, and the content of the app's databases: equal after most steps, which only read."""
    sizes = {
        (str(path.relative_to(folder)), path.stat().st_size) for path in folder.rglob("*") if path.is_file()
    }
    return frozenset(sizes), tuple(path.read_bytes() for path in find_databases(folder))


def run_child(words, folder):
    """Run a command in a child process; its output is discarded."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.environ.clear()
    os.environ.update(create_environment(folder))
    with chdir(folder):
        main([str(word) for word in words])


@pytest.mark.parametrize(("name", "line"), list_lines())
def test_command_killed_before_each_statement(apps, name, line, tmp_path):
    case = Case(apps(name), line, tmp_path)
    assert case.status == 0
    outcomes = Counter()
    for step in choose_steps(line, choose_stride(line)):
        folder = case.copy()
        if not run_killed(step, lambda folder=folder: run_child(case.words, folder)):
            break
        outcomes[check_killed(case, line, folder, step)] += 1
        shutil.rmtree(folder.parent)
    print(f"{name}: {line}: {outcomes.total()} kills, {dict(outcomes)}")


def check_killed(case, line, folder, step):
    """Check what a killed command left, and repeat it; return whether its change was there."""
    rows = read_rows(folder)
    is_new, is_old = case.is_equal(rows, case.after), case.is_equal(rows, case.before)
    assert is_new or is_old or line.startswith(GRADUAL), (
        f"step {step}: rows of neither state: {case.list_differences(rows, case.before)} are not the old, "
        f"{case.list_differences(rows, case.after)} not the new"
    )
    assert {finding.severity for finding in verify_log(folder / "state").findings} <= {"info", "warning"}
    new = read_operations(folder)[: -case.operations or None]
    if is_old and not is_new:
        assert not [item for item in new if item.result == "committed"], (
            f"step {step}: recorded, but not committed"
        )
    elif is_new and not is_old and reference.find_spec(line).writes.undo:
        assert new, f"step {step}: committed, but not recorded"
    outcome = "both" if is_new and is_old else "new" if is_new else "old" if is_old else "part"
    if (state := describe_files(folder)) in case.repeated:
        return outcome
    case.repeated.add(state)
    status = case.run(folder, case.words)
    assert status == 0 or ((not is_old or " --to " in line) and status in REPEATED), (
        f"step {step}: exit code {status} of the repetition"
    )
    repeated = read_rows(folder)
    assert not is_old or case.is_equal(repeated, case.after), (
        f"step {step}: the repetition changed other rows: {case.list_differences(repeated, case.after)}"
    )
    return outcome
