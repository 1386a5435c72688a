"""Built-in profiles of real applications: one contract, for each application on each engine that it supports.

``APP.toml`` has the tables and columns that the profile names, with the types of the application, some rows, and the expected results.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dbctl.profiles.model.users import Users
from tests.databases import ComparedDatabase, empty_database
from tests.profiles.apps import hashes
from tests.profiles.apps.deployments import (
    NAMES,
    PASSWORD,
    fill,
    hash_input,
    load_profile,
    read_expectations,
    run_sql,
)

#: With whitespace at its ends, quotes and a decomposed letter, which forms of some applications change.
NEW_PASSWORD = " another 'horse' 43 cafe\u0301 "

PROOFS = ("commands-proven", "commands-inferred", "proof-superseded")
Answer = Callable[..., dict[str, Any]]

CASES = [(name, engine) for name in NAMES for engine in read_expectations(name)["engines"]]


class App:
    """One application in a new database, and its expected results."""

    def __init__(self, name: str, database: ComparedDatabase, folder: Path, answer: Answer) -> None:
        self.name, self.database, self.expected = name, database, read_expectations(name)
        self._answer = answer
        self.folder = folder
        self.profile = load_profile(name)
        self._words = fill(name, database)
        for file in self.expected.get("extra", []):
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("key")
        (folder / "pepper").write_text(self.expected.get("pepper", ""))
        (folder / "dbctl.toml").write_text(
            f'[apps.app]\nprofile = "{name}"\ndirectory = "."\npepper_file = "pepper"\n[apps.app.databases]\nmain = "{database.url}"\n'
            '[apps.app.backup]\nrepository = "backups"\n'
        )

    def run_sql(self, text: str) -> None:
        """Run statements in which ``@name@`` is a word of the engine."""
        run_sql(self.database, self._words, text)

    def run(self, *words: str, status: int | None = 0) -> Any:
        """Return the data of a command."""
        result = self._answer("--config", str(self.folder / "dbctl.toml"), *words, status=None)
        assert status in (None, result["exit_code"]), result["error"] or result["data"]
        return result["data"]

    def list_contradictions(self) -> Sequence[str]:
        """Return the codes of what the profile does not agree with; those about proofs are left out: the ledger has few rows."""
        codes = [finding["code"] for finding in self.run("apps", "check")["findings"]]
        return [code for code in codes if code not in PROOFS]

    def refuse(self, *words: str) -> str:
        """Return the code of the error of a command that the app cannot have."""
        result = self._answer("--config", str(self.folder / "dbctl.toml"), *words, status=None)
        assert result["exit_code"] == 2, result
        return str(result["error"]["code"])

    def password_file(self, password: str) -> Sequence[str]:
        path = self.folder / "password"
        path.write_text(password)
        return "--password-file", str(path)

    def assert_rows(self, key: str) -> None:
        """Assert the numbers of rows that the expectations have under a key, by table."""
        for table, count in self.expected.get(key, {}).items():
            assert self.select(f'select count(*) from "{table}"') == [(count,)], table

    def read_tables(self) -> dict[str, Counter[str]]:
        """Return the rows of all tables of the schema."""
        tables = re.findall(r'^create table "?(\w+)', self.expected["schema"], re.MULTILINE)
        return {name: Counter(map(repr, self.select(f'select * from "{name}"'))) for name in tables}

    def select(self, sql: str) -> list[tuple[object, ...]]:
        return [tuple(row) for row in self.database.rows(sql)]


@pytest.fixture(params=CASES, ids=["-".join(case) for case in CASES])
def app(request: pytest.FixtureRequest, tmp_path: Path, answer: Answer) -> Iterator[App]:
    name, engine = request.param
    with empty_database(engine, tmp_path / "main.db") as database:
        yield App(name, database, tmp_path, answer)


def test_profile_agrees_with_the_schema_and_reads_everything(app: App) -> None:
    expected, profile = app.expected, app.profile
    assert app.list_contradictions() == []
    users = {item["login"]: item for item in app.run("users", "list")["items"]} if profile.users else {}
    if expected.get("admin"):
        assert users[expected["admin"]]["role"] == (profile.users.admin if profile.users else "")
    if expected.get("inactive"):
        assert [login for login in users if users[login]["active"] is False] == [expected["inactive"]]
    for login in expected.get("not_users", []):
        assert login not in users
    if profile.users and profile.users.role:
        user_counts = Counter(
            name for user in users.values() for name in user.get("roles") or [user["role"]] if name
        )
        assert {
            role["name"]: role["users"] for role in app.run("roles", "list")["items"] if role["users"]
        } == user_counts
    if expected.get("user"):
        assert app.run("users", "show", expected["user"])["login"] == expected["user"]
    if "migrations" in expected:
        migrations = app.run("migrate", "status")["items"]
        assert len(migrations) == expected["migrations"]
        assert {migration["state"] for migration in migrations} == {"applied"}
    if "search" in expected:
        items = app.run("search", *expected["search"])["items"]
        assert [str(next(iter(item.values()))) for item in items] == [expected["first_match"]]
    for report in profile.report:
        assert "***" not in json.dumps(app.run("stats", "run", report.name)), report.name
    assert {finding["code"] for finding in app.run("integrity", "check", status=None)["findings"]} == set()
    for listed in profile.sessions:
        app.run("sessions", "list", "--kind", listed.name)


def change_password(app: App, users: Users) -> None:
    """Set a password that the library of the application then accepts, or assert that dbctl refuses it."""
    user, words = app.expected["user"], ("users", "check-password", app.expected["user"])
    if users.password is None or not users.password.writes:
        reason = app.refuse("users", "set-password", user, *app.password_file(NEW_PASSWORD))
        assert reason == "not-supported"  # the app has passwords
    if users.password is None:
        return
    app.run(*words, *app.password_file(PASSWORD))
    if not users.password.writes:
        return
    words_of_change = ("users", "set-password", user, *app.password_file(NEW_PASSWORD))
    assert app.run(*words_of_change, "--dry-run")["plan"]["rows"][users.table] == 1
    app.run(*words_of_change)
    app.run(*words, *app.password_file(PASSWORD), status=1)
    app.run(*words, *app.password_file(NEW_PASSWORD))
    key = app.run("users", "show", user)["id"]
    columns = ", ".join(f'"{name}"' for name in users.password.columns)
    (stored,) = app.select(f"""select {columns} from "{users.table}" where "{users.id.column}" = '{key}'""")
    stored_hash = "$".join(map(_to_text, stored))
    assert hashes.accepts(hash_input(app.name, str(app.expected.get("hashed", NEW_PASSWORD))), stored_hash)


def _to_text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def create_user(app: App, users: Users) -> None:
    """Create a user with the rows that the application creates, or assert that only the application can."""
    if users.only_app_creates:
        app.run("users", "create", "dora@example.org", *app.password_file(PASSWORD), status=2)
        return
    words = ["users", "create", *app.expected["create"], *app.password_file(PASSWORD)]
    created = app.run(*words)["user"]
    assert created["active"] in (True, None)
    app.assert_rows("rows_after_create")
    app.run(*words, status=6)
    app.run("users", "delete", created["login"], "--yes")


def delete_user(app: App, user: str) -> None:
    """Delete a user with the rows of the plan, or assert that only the application can."""
    words = ("users", "delete", user)
    if status := app.expected.get("delete", 0):
        app.run(*words, "--yes", status=status)
        return
    planned, before = app.run(*words, "--dry-run")["plan"]["rows"], app.read_tables()
    app.run(*words, "--yes")
    after = app.read_tables()
    changed = {
        name: max((before[name] - after[name]).total(), (after[name] - before[name]).total())
        for name in before
    }
    assert {name: count for name, count in changed.items() if count} == planned


def change_state(app: App, users: Users) -> None:
    """Deactivate and activate a user, or assert that dbctl refuses it; list users by their state."""
    expected, user = app.expected, app.expected["user"]
    for field in expected.get("required", ()):
        app.run("users", "update", user, "--set", f"{field}=", status=2)
    if expected.get("inactive") and not expected.get("deactivate"):
        app.run("users", "activate", expected["inactive"], status=2)  # the app deletes such users
    if expected.get("deactivate"):
        assert app.run("users", "deactivate", user)["users"][0]["active"] is False
        app.assert_rows("rows_after_deactivate")
        assert app.run("users", "activate", user)["users"][0]["active"] is True
        if "admin" in expected:
            app.run("users", "deactivate", expected["admin"], status=6)
    if "active" not in (*users.fields, *users.joined):
        reason = "not-supported" if users.only_app_deactivates else "feature-missing"
        assert app.refuse("users", "deactivate", user) == reason
    if expected.get("inactive"):
        for option, is_active in (("--active", True), ("--no-active", False)):
            listed = app.run("users", "list", option)["items"]
            assert (expected["inactive"] in [item["login"] for item in listed]) is not is_active


@pytest.mark.slow
def test_users_are_changed_as_the_application_does(app: App) -> None:
    expected, users = app.expected, app.profile.users
    if users is None:
        pytest.skip("the application has no users")
    user = expected["user"]
    change_password(app, users)
    create_user(app, users)
    if "role" in expected:
        old_role = app.run("users", "show", user)["role"]
        assert app.run("users", "set-role", user, expected["role"])["users"][0]["role"] == expected["role"]
        app.run("users", "set-role", user, old_role)
    change_state(app, users)
    if "all_users" in expected:
        app.run("users", "delete", *expected["all_users"], "--yes", status=6)
    if "admin" in expected:  # the last one
        app.run("users", "delete", expected["admin"], "--yes", status=expected.get("delete", 6))
    app.run("sessions", "revoke", user, "--yes", status=expected.get("revoke", 0))
    delete_user(app, user)
    app.assert_rows("rows_after_delete")
    assert app.list_contradictions() == []


@pytest.mark.parametrize(
    "app", [case for case in CASES if "variant" in read_expectations(case[0])], indirect=True
)
def test_another_version_has_the_variant_of_the_profile(app: App) -> None:
    variant, inactive = app.expected["variant"], app.expected["inactive"]
    app.run_sql(variant["schema"])
    assert app.run("apps", "list")["items"][0]["variant"] == variant["name"]
    assert app.list_contradictions() == ["variant"]
    users = app.run("users", "list")["items"]
    assert [user["login"] for user in users if user["active"] is False] == [inactive]
    assert [user["login"] for user in app.run("users", "list", "--no-active")["items"]] == [inactive]
    app.run(
        "users",
        "remove-role",
        app.expected["admin"],
        app.profile.users.admin if app.profile.users else "",
        status=6,
    )


#: Each application on one of its engines: what a profile declares of settings and rules has been compared with the schema on all.
ONE_ENGINE = [
    (name, engines[number % len(engines)])
    for number, name in enumerate(NAMES)
    if (engines := read_expectations(name)["engines"])
]


@pytest.mark.slow
@pytest.mark.parametrize("app", ONE_ENGINE, indirect=True)
def test_settings_cleanup_backup_and_restore(app: App) -> None:
    expected = app.expected
    if "setting" in expected:
        key, value = expected["setting"]
        app.run("settings", "set", key, value)
        assert json.dumps(app.run("settings", "get", key)["value"]).strip(chr(34)) == value
    created = app.run("backup", "create")
    assert created["complete"]
    if "cleanup" in expected:
        changed = {rule["rule"]: rule for rule in app.run("sessions", "cleanup")["rules"]}
        for table, count in expected["cleanup"].items():
            assert app.select(f'select count(*) from "{table}"') == [(count - 1,)], changed
    app.run("restore", "apply", "latest", "--yes")
    app.assert_rows("cleanup")
