"""``profiles learn create-user``: the values of a new user, its rows in other tables, and its role."""

from __future__ import annotations

import gzip
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from dbctl.files import toml
from tests.extensions.drafts.learning.demonstrations import find_pair

ENGINES = ["sqlite", "postgresql"]


def read_users(profile):
    return toml.loads(profile.read_text())["users"]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_values_and_rows_of_new_user_of_label_studio_are_learned(learn, tmp_path, engine):
    profile = tmp_path / "app.toml"
    learned = learn("label-studio", 1, profile, engine=engine)["data"]
    users = read_users(profile)
    assert users["login"] == ["email"]
    assert users["new"] == {
        "username": "{email:local}",
        **dict.fromkeys(["first_name", "last_name", "phone", "avatar"], ""),
        **dict.fromkeys(["last_activity", "activity_at"], ":now"),
        "active_organization_id": 1,
        "allow_newsletters": False,
        "custom_hotkeys": "{}",
    }
    member = {"created_at": ":now", "updated_at": ":now", "organization_id": 1}
    assert [(row["table"], row["user"], row["values"]) for row in users["create"]] == [
        ("authtoken_token", "user_id", {"key": ":hex-40", "created": ":now"}),
        ("organizations_organizationmember", "user_id", member),
    ]
    assert [entry.partition(":")[0] for entry in learned["unrelated"]] == ["htx_user.last_login"]
    assert "new-users" not in toml.loads(profile.read_text())["undecided"]


@pytest.mark.parametrize("engine", ENGINES)
def test_group_of_new_user_of_pgadmin_is_learned(learn, tmp_path, engine):
    profile = tmp_path / "app.toml"
    learn("pgadmin4", 1, profile, engine=engine)
    users = read_users(profile)
    assert users["create"] == [{"table": "servergroup", "user": "user_id", "values": {"name": "Servers"}}]
    assert users["new"] == {
        "username": "{email}",
        "auth_source": "internal",
        "fs_uniquifier": ":hex-32",
        "locked": False,
        "login_attempts": 0,
    }
    assert users["role"]["default"] == "User"


def test_sign_in_with_registration_is_unrelated(learn, tmp_path):
    profile = tmp_path / "app.toml"
    learned = learn("strapi", 1, profile)["data"]
    users = read_users(profile)
    assert users["new"] == {
        "document_id": ":cuid2",
        "provider": "local",
        "confirmed": True,
        "blocked": False,
        "published_at": ":now",
    }
    assert [entry.partition(":")[0] for entry in learned["unrelated"]] == ["strapi_sessions"]
    assert users["role"]["default"] == "Authenticated"


def test_next_position_within_role_is_learned_and_written(learn, answer, tmp_path, monkeypatch):
    profile, path = tmp_path / "app.toml", tmp_path / "strapi.db"
    learn("strapi", 1, profile)
    assert read_users(profile)["role"]["members"]["new"] == {"user_ord": ":next(role_id)"}
    script = gzip.decompress(find_pair("strapi", 1).before[0].read_bytes()).decode()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    words = ["--profile", str(profile), "--url", str(path), "users", "create"]
    for login in ("erin", "fay"):
        answer(*words, login, "--email", f"{login}@example.org", "--generate")
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("select user_id, role_id, user_ord from up_users_role_lnk where id > 4")
        assert list(rows) == [(5, 1, 5.0), (6, 1, 6.0)]


def test_key_of_acting_admin_is_unrelated(learn, tmp_path):
    learned = learn("strapi", 2, tmp_path / "app.toml")["data"]
    places = [entry.partition(":")[0] for entry in learned["unrelated"]]
    assert places == ["up_users.created_by_id", "up_users.updated_by_id"]


def test_second_demonstration_separates_constants_from_others(learn, tmp_path):
    profile = tmp_path / "app.toml"
    learn("pgadmin4", 1, profile)
    lines = {line["key"]: line for line in learn("pgadmin4", 2, profile)["data"]["lines"]}
    assert "2 demonstrations" in lines["users.new"]["evidence"]
    assert lines["users.new"]["replaced"] is None


CLUB = """
    create table members (id integer primary key, login text not null unique, password text not null, plan text,
      card text unique);
    insert into members values (1, 'root', '$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy', 'gold', 'A-17 x');
    insert into members values (2, 'bo', '$2b$10$M9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy', 'silver', 'B-40 y');
"""


@pytest.mark.parametrize(("plan", "finding"), [("basic", ""), ("trial", "it differs between demonstrations")])
def test_second_demonstration_is_proposed_where_it_decides(answer, tmp_path, plan, finding):
    before, after, profile = (tmp_path / name for name in ("before.db", "after.db", "app.toml"))
    answers = []
    for login, value, card in (("ida", "basic", "K/91 q"), ("eve", plan, "T/32 z")):
        user = f"insert into members select 3, '{login}', password, '{value}', '{card}' from members limit 1"
        for file, script in ((before, CLUB), (after, CLUB + user)):
            file.unlink(missing_ok=True)
            with closing(sqlite3.connect(file)) as connection:
                connection.executescript(script)
        words = ("--before", str(before), "--after", str(after), "--login", login, "--to", str(profile))
        answers.append(answer("profiles", "learn", "create-user", *words)["data"]["decisions"])
    first, second = ({text.split(": ")[1]: text for text in decisions} for decisions in answers)
    assert "a second demonstration" in first["members.plan"]
    assert "demonstration" not in first["members.card"]  # a unique value cannot be constant
    assert second.get("members.plan", "").endswith(finding)
    assert read_users(profile).get("new", {}).get("plan") == (None if finding else plan)


def test_role_of_admins_is_learned_and_candidates_disappear(learn, tmp_path):
    profile = tmp_path / "app.toml"
    learn("pgadmin4", 1, profile)
    assert "# admin = " in profile.read_text()
    assert [line["key"] for line in learn("pgadmin4", 3, profile)["data"]["lines"]] == ["users.admin"]
    assert read_users(profile)["admin"] == "Administrator"
    assert read_users(profile)["role"]["default"] == "User"
    assert "# admin = " not in profile.read_text()
    assert "admin" not in toml.loads(profile.read_text())["undecided"]


def test_refused_user_is_no_demonstration(learn, tmp_path):
    profile = tmp_path / "app.toml"
    assert learn("strapi", 15, profile, status=4)["error"]["code"] == "demonstration-wrong"
    assert not profile.exists()


def test_row_with_key_of_user_as_own_key_is_learned_and_written(running_app, answer):
    running_app.learn("create-user", "--login", "ida", after=running_app.command("add"))
    (row,) = [row for row in read_users(running_app.profile)["create"] if row["table"] == "profiles"]
    assert row == {"table": "profiles", "user": "account_id", "values": {"display_name": "{username}"}}
    words = ["--profile", str(running_app.profile), "--url", running_app.address]
    answer(*words, "users", "create", "eve", "--email", "eve@example.org", "--generate")
    rows = answer(*words, "data", "rows", "profiles")["data"]["items"]
    assert [(row["account_id"], row["display_name"]) for row in rows][-2:] == [(5, "ida"), (6, "eve")]


COUNTED = "create table counters (name varchar(20) primary key, used integer not null)"


def create_counter(app):
    with closing(sqlite3.connect(app.address)) as connection, connection:
        connection.execute(COUNTED)
        connection.execute("insert into counters values ('members', 4)")


def count(app):
    """Return a command that changes the counter, as a part of an action of the app."""
    program = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None)"
    program += "; db.execute('update counters set used = used + 1')"
    return shlex.join([sys.executable, "-c", program, app.address])


def test_counter_that_the_app_changes_is_an_open_decision(sqlite_app):
    create_counter(sqlite_app)
    after = f"{sqlite_app.command('add')} && {count(sqlite_app)}"
    learned = sqlite_app.learn("create-user", "--login", "ida", after=after)["data"]
    (decision,) = [text for text in learned["decisions"] if "counters" in text]
    assert "counters.used" in decision
    assert "from 4 to 5" in decision
    assert not any("counters" in text for text in learned["unrelated"])
    assert "counters.used" in str(toml.loads(sqlite_app.profile.read_text())["undecided"]["new-users"])


def test_counter_that_changes_without_an_action_is_unrelated(sqlite_app):
    create_counter(sqlite_app)
    with subprocess.Popen(
        ["/bin/sh", "-c", f"while {count(sqlite_app)}; do sleep 0.1; done"], start_new_session=True
    ) as busy:
        try:
            learned = sqlite_app.learn(
                "create-user", "--login", "ida", "--watch", "2", after=sqlite_app.command("add")
            )["data"]
        finally:
            os.killpg(busy.pid, signal.SIGTERM)
    assert any("counters" in text and "without an action" in text for text in learned["unrelated"])
    assert not any("counters" in text for text in learned["decisions"])
