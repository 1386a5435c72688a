"""Learning from changes of a user's state: who can sign in, and who has which role, as dbctl's commands write it afterwards."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from dbctl.files import toml
from dbctl.profiles.loader import BUILTIN
from tests.extensions.drafts.learning.demonstrations import find_pair
from tests.extensions.drafts.learning.replays import list_differences, load_states

OF_DJANGO = {"htx_user": (0, 0, ["activity_at", "last_activity"]), "django_admin_log": (0, 1, [])}
OF_STRAPI = {"up_users": (0, 0, ["published_at", "updated_at"])}
#: By number of the demonstration, the command that repeats it, and in what the rows differ besides.
STATES = [
    ("label-studio", 10, ["deactivate"], OF_DJANGO),
    ("label-studio", 11, ["activate"], OF_DJANGO),
    ("pgadmin4", 15, ["deactivate"], {}),
    ("pgadmin4", 16, ["activate"], {}),
    ("strapi", 10, ["deactivate"], OF_STRAPI),
    ("strapi", 11, ["activate"], OF_STRAPI),
    ("strapi", 27, ["deactivate"], {"admin_users": (0, 0, ["updated_at"])}),
    ("mlflow", 3, ["set-role", "admin"], {}),
    ("mlflow", 6, ["set-role", "user"], {}),
    ("mlflow", 7, ["set-role", "reviewers"], {}),
    ("label-studio", 9, ["set-role", "user"], OF_DJANGO),
    ("calibre-web", 7, ["set-role", "admin"], {}),
    ("calibre-web", 8, ["set-role", "user"], {}),
    ("pgadmin4", 13, ["set-role", "Administrator"], {}),
    ("strapi", 25, ["set-role", "Super Admin"], {"admin_users": (0, 0, ["updated_at"])}),
]
ON_POSTGRESQL = [("pgadmin4", 13), ("mlflow", 7)]


@pytest.mark.parametrize(
    ("engine", "app", "number", "command", "unrelated"),
    [
        *(("sqlite", *entry) for entry in STATES),
        *(("postgresql", *entry) for entry in STATES if entry[:2] in ON_POSTGRESQL),
    ],
)
def test_command_writes_rows_of_demonstration(
    learn, answer, tmp_path, engine, app, number, command, unrelated
):
    profile = tmp_path / "app.toml"
    learn(app, number, profile, engine=engine)
    if "admin" in toml.loads(text := profile.read_text()).get("undecided", {}):
        profile.write_text(text.replace("\n[users]\n", "\n[users]\nadmin = false\n", 1))
    pair = find_pair(app, number, engine)
    verb, *roles = command
    with load_states(pair, tmp_path) as (before, after):
        answer("users", verb, pair.login, *roles, "--yes", "--profile", str(profile), "--url", before)
        assert list_differences(answer, before, after) == unrelated


def test_column_that_is_true_for_blocked_users_is_inverted(learn, tmp_path):
    profile = tmp_path / "strapi.toml"
    learn("strapi", 10, profile)
    users = toml.loads(profile.read_text())["users"]
    assert users["fields"]["active"] == "blocked"
    assert users["active"] == {"values": [False], "inactive": True}


def test_promotion_decides_role_of_admins(learn, tmp_path):
    profile = tmp_path / "pgadmin.toml"
    learn("pgadmin4", 13, profile)
    learned = toml.loads(profile.read_text())
    assert learned["users"]["admin"] == "Administrator"
    assert "admin" not in learned["undecided"]


def test_role_of_another_user_decides_nothing(learn, tmp_path):
    profile = tmp_path / "strapi.toml"
    learn("strapi", 8, profile)
    assert toml.loads(profile.read_text())["undecided"]["admin"]


def test_memberships_are_added_to_boolean_column(learn, tmp_path):
    profile = tmp_path / "mlflow.toml"
    learn("mlflow", 7, profile)
    role = toml.loads(profile.read_text())["users"]["role"]
    assert [rank["name"] for rank in role["ranks"]] == ["admin", "user"]
    assert role["members"]["table"] == "user_role_assignments"


def test_bits_of_role_are_learned(learn, tmp_path):
    profile = tmp_path / "calibre.toml"
    learn("calibre-web", 7, profile)
    learned = toml.loads(profile.read_text())
    assert learned["users"]["role"] == {"column": "role", "bits": {"admin": 1, "user": 0}, "default": "user"}
    assert learned["users"]["admin"] == "admin"
    assert "admin" not in learned["undecided"]


def test_other_role_than_that_of_demonstration_is_refused(learn, tmp_path):
    profile = tmp_path / "strapi.toml"
    refused = learn("strapi", 25, profile, "--role", "Editor", status=4)
    assert refused["error"]["code"] == "demonstration-wrong"
    assert not profile.exists()


def test_order_of_other_users_is_unrelated(learn, tmp_path):
    learned = learn("strapi", 8, tmp_path / "strapi.toml")["data"]
    assert any(text.startswith("up_users_role_lnk.user_ord:") for text in learned["unrelated"])


def test_change_of_role_keeps_other_bits(learn, answer, tmp_path):
    profile = tmp_path / "calibre.toml"
    learn("calibre-web", 7, profile)
    with load_states(find_pair("calibre-web", 7), tmp_path) as (before, _):
        options = ["--yes", "--profile", str(profile), "--url", before]
        answer("users", "set-role", "frank", "user", *options)
        assert answer("users", "show", "frank", *options[1:])["data"]["role"] == "user"
        with closing(sqlite3.connect(before)) as connection:
            assert connection.execute("select role from user where name = 'frank'").fetchall() == [(478,)]
        refused = [
            answer("users", "set-role", name, "user", *options, status=None)["exit_code"]
            for name in ("carol", "admin")
        ]
    assert refused == [0, 6]


@pytest.mark.slow
def test_pairs_of_the_profile_need_no_foreign_keys(learn, tmp_path):
    profile = tmp_path / "ghost.toml"
    profile.write_text((BUILTIN / "ghost.toml").read_text())
    learned = learn("ghost", 5, profile, engine="mysql")["data"]
    assert (learned["tables"], learned["lines"]) == (["roles_users"], [])


SCHEMA = """
create table users (id integer primary key, username text not null unique, active boolean not null default 1);
create table devices (id integer primary key, user_id integer not null references users (id), enabled integer not null);
insert into users (username) values ('ada'), ('bo'), ('cy');
insert into devices (user_id, enabled) values (1, 7), (2, 7);
"""


@pytest.fixture
def deactivate(answer, tmp_path):
    """Learn a deactivation, or another action, that statements do, and return the result."""

    def run(login, statements, status=0, action="deactivate", options=("--admin", "none"), schema=SCHEMA):
        before, after = tmp_path / "before.db", tmp_path / "after.db"
        for path, script in ((before, schema), (after, schema + statements)):
            with closing(sqlite3.connect(path)) as db:
                db.executescript(script)
        words = ["--before", str(before), "--after", str(after), "--login", login, *options]
        return answer("profiles", "learn", action, *words, "--to", str(tmp_path / "app.toml"), status=status)

    return run


def test_further_rows_of_the_user_are_open_and_not_proven(deactivate, answer, tmp_path):
    learned = deactivate("bo", "update users set active = 0 where id = 2; update devices set enabled = 9")
    assert learned["data"]["decisions"] == ["other: the app changes devices.enabled of the user, too"]
    replayed = answer("profiles", "prove", str(tmp_path / "app.toml"), status=4)["data"]["recordings"][0]
    assert {difference["table"] for difference in replayed["differences"]} == {"main.devices"}


def test_flag_of_another_user_is_no_reference_to_the_first_user(deactivate, tmp_path):
    refused = deactivate("ada", "update users set active = 0 where id in (1, 2)", status=4)
    assert refused["error"]["code"] == "demonstration-wrong"
    assert not (tmp_path / "app.toml").exists()


@pytest.mark.parametrize(("column", "inactive"), [("active", 0), ("is_banned", 1)])
def test_flag_whose_name_contradicts_the_action_is_refused(deactivate, tmp_path, column, inactive):
    schema = SCHEMA.replace(
        "active boolean not null default 1", f"{column} boolean not null default {inactive}"
    )
    script = f"update users set {column} = {1 - inactive} where id = 2"
    refused = deactivate("bo", script, status=4, schema=schema)
    assert refused["error"]["code"] == "demonstration-wrong"
    assert not (tmp_path / "app.toml").exists()


@pytest.mark.parametrize(("role", "admin"), [("Super Admin", "Super Admin"), ("Team admin", None)])
def test_role_that_is_named_after_more_than_admins_decides_nothing(deactivate, tmp_path, role, admin):
    column = "alter table users add column role text not null default 'member';"
    script = f"update users set role = '{role}' where id = 2"
    deactivate("bo", script, action="set-role", options=["--role", role], schema=SCHEMA + column)
    profile = toml.loads((tmp_path / "app.toml").read_text())
    assert profile["users"].get("admin") == admin
    assert profile["users"]["role"]["values"] == ["member", role]
    assert ("admin" in profile.get("undecided", {})) is (admin is None)
