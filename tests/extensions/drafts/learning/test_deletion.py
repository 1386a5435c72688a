"""Learning from the deletion of a user: what is deleted, cleared and kept, as ``users delete`` does afterwards."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from dbctl.files import toml
from tests.extensions.drafts.learning.demonstrations import find_pair
from tests.extensions.drafts.learning.replays import list_differences, load_states

#: The deletions of the applications, and in what the rows differ that neither dbctl nor the user of the app should write.
DELETIONS = [
    ("mlflow", 12, {}),
    ("calibre-web", 16, {}),
    ("calibre-web", 18, {}),
    ("label-studio", 17, {"htx_user": (0, 0, ["last_activity"])}),
    ("label-studio", 18, {"htx_user": (0, 0, ["last_activity"]), "django_admin_log": (0, 1, [])}),
    ("pgadmin4", 17, {}),
    ("pgadmin4", 19, {}),
    ("pgadmin4", 20, {}),
    ("strapi", 12, {}),
    ("strapi", 13, {}),
    ("strapi", 31, {}),
]
ON_POSTGRESQL = [("mlflow", 12), ("pgadmin4", 17)]


def decide_admin(profile) -> None:
    """Decide which role admins have: a deletion does not show it."""
    text = profile.read_text()
    if "admin" in toml.loads(text).get("undecided", {}):
        profile.write_text(text.replace("\n[users]\n", "\n[users]\nadmin = false\n", 1))


@pytest.mark.parametrize(
    ("engine", "app", "number", "unrelated"),
    [
        *(("sqlite", *entry) for entry in DELETIONS),
        *(("postgresql", *entry) for entry in DELETIONS if entry[:2] in ON_POSTGRESQL),
    ],
)
def test_users_delete_deletes_rows_of_demonstration(learn, answer, tmp_path, engine, app, number, unrelated):
    profile = tmp_path / "app.toml"
    learn(app, number, profile, engine=engine)
    decide_admin(profile)
    pair = find_pair(app, number, engine)
    with load_states(pair, tmp_path) as (before, after):
        answer("users", "delete", pair.login, "--yes", "--profile", str(profile), "--url", before)
        assert list_differences(answer, before, after) == unrelated


def read_users(profile):
    return toml.loads(profile.read_text())["users"]


def test_rows_named_by_key_of_user_are_deleted_and_rights_are_decided(learn, tmp_path):
    profile = tmp_path / "mlflow.toml"
    learn("mlflow", 12, profile)
    cascade = read_users(profile)["cascade"]
    assert cascade[-2:] == [
        "role_permissions.role_id -> roles.name=__user_{id}__",
        "roles.name=__user_{id}__",
    ]
    assert "user_role_assignments.user_id" in cascade
    assert "undecided" not in toml.loads(profile.read_text())


def test_entries_without_rows_keep_their_evidence(learn, tmp_path):
    profile = tmp_path / "mlflow.toml"
    learn("mlflow", 12, profile)
    lines = {
        line.split(",")[0].strip(): line for line in profile.read_text().splitlines() if "user_id" in line
    }
    assert lines['"scorer_permissions.user_id"'].endswith("# a foreign key would prevent the deletion")
    assert lines['"user_role_assignments.user_id"'].endswith("# learned: delete-user, 1 demonstration")


def test_only_rows_of_one_kind_are_deleted(learn, tmp_path):
    profile = tmp_path / "strapi.toml"
    learn("strapi", 12, profile)
    assert read_users(profile)["cascade"] == ["strapi_sessions[origin=users-permissions].user_id"]


def test_rows_of_other_users_that_go_are_remarked(learn, tmp_path):
    profile = tmp_path / "pgadmin.toml"
    learned = learn("pgadmin4", 19, profile)["data"]
    assert "sharedserver.servergroup_id -> servergroup.user_id" in read_users(profile)["cascade"]
    assert any("sharedserver" in note for note in learned["learned_notes"])


@pytest.mark.slow
def test_second_way_of_app_does_not_revoke_first(learn, tmp_path):
    profile = tmp_path / "strapi.toml"
    learn("strapi", 12, profile)
    learned = learn("strapi", 13, profile)["data"]
    assert learned["lines"] == []
    assert ["strapi_sessions" in decision for decision in learned["decisions"]] == [True]


def test_decision_remains_for_rows_that_user_did_not_have(learn, tmp_path):
    profile = tmp_path / "calibre.toml"
    learn("calibre-web", 16, profile)
    (decision,) = toml.loads(profile.read_text())["undecided"]["deletion"]
    assert "downloads.user_id" in decision
    assert "shelf.user_id" not in decision


@pytest.mark.parametrize(("app", "number"), [("label-studio", 22), ("calibre-web", 20)])
def test_wrong_deletion_is_refused(learn, tmp_path, app, number):
    profile = tmp_path / "app.toml"
    refused = learn(app, number, profile, status=4)
    assert refused["error"]["code"] == "demonstration-wrong"
    assert not profile.exists()


#: An app without foreign keys.
FORUM = """
    create table users (id integer primary key, username text not null unique, password text not null, active boolean not null);
    create table sessions (id integer primary key, user_id integer not null, token text not null, expires_at text);
    create table posts (id integer primary key, author_id integer, title text not null);
    create table likes (id integer primary key, user_id integer not null, post_id integer not null);
    create table notes (id integer primary key, owner_type text not null, owner_id integer not null, text text not null);
    create table audit_log (id integer primary key, user_id integer not null, action text not null);
    insert into users values (1, 'root', '$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy', true),
        (2, 'ida', '$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy', true),
        (3, 'bo', '$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy', true);
    insert into sessions values (1, 2, 'aaaa', '2030-01-01T00:00:00.000Z'), (2, 3, 'bbbb', '2030-01-01T00:00:00.000Z');
    insert into posts values (1, 2, 'First'), (2, 3, 'Second'), (3, 2, 'Third');
    insert into likes values (1, 3, 1), (2, 2, 2);
    insert into notes values (1, 'user', 2, 'a'), (2, 'group', 2, 'b'), (3, 'group', 7, 'c');
    insert into audit_log values (1, 2, 'sign-in'), (2, 1, 'sign-in');
"""


@pytest.fixture
def demonstrate(answer, tmp_path):
    """Learn from statements that delete a user of the forum; return the result and the section about users."""

    def run(*statements: str, status=0):
        files, profile = [tmp_path / "before.db", tmp_path / "after.db"], tmp_path / "forum.toml"
        for file, script in zip(files, (FORUM, FORUM + ";".join(statements)), strict=True):
            file.unlink(missing_ok=True)
            with closing(sqlite3.connect(file)) as connection:
                connection.executescript(script)
        words = ["--before", str(files[0]), "--after", str(files[1]), "--login", "ida", "--to", str(profile)]
        result = answer("profiles", "learn", "delete-user", *words, status=status)
        return result["data"], read_users(profile) if status == 0 else {}

    return run


DELETION = ("delete from users where id = 2", "delete from sessions where user_id = 2")


def test_rows_that_remain_are_retained(demonstrate):
    _, users = demonstrate(
        *DELETION,
        "delete from likes where user_id = 2",
        "update posts set author_id = null where id <> 2",
        "delete from notes where id = 1",
    )
    assert sorted(users["cascade"]) == [
        "likes.user_id",
        "notes[owner_type=user].owner_id",
        "sessions.user_id",
    ]
    assert users["clear"] == ["posts.author_id"]
    assert users["retained"] == {"audit_log.user_id": "as in the app"}


def test_references_to_deleted_rows_are_followed(demonstrate):
    _, users = demonstrate(
        *DELETION,
        "delete from notes where id = 1",
        "delete from likes where user_id = 2",
        "delete from posts where author_id = 2",
    )
    assert "notes[owner_type=user].owner_id" in users["cascade"]
    assert "posts.author_id" in users["cascade"]


def test_deletion_that_columns_do_not_explain_stays_open(demonstrate):
    learned, users = demonstrate(*DELETION, "delete from notes where id = 3")
    assert users["cascade"] == ["sessions.user_id"]
    assert any("notes" in decision for decision in learned["decisions"])


def test_rows_given_to_another_user_are_transferable(demonstrate):
    learned, users = demonstrate(*DELETION, "update posts set author_id = 1 where author_id = 2")
    assert {"table": "posts", "column": "author_id"} in users["transfer"]
    assert any("posts.author_id" in decision for decision in learned["decisions"])


def test_row_of_log_is_unrelated(demonstrate):
    learned, _ = demonstrate(*DELETION, "insert into audit_log values (3, 1, 'deleted ida')")
    assert [text.partition(":")[0] for text in learned["unrelated"]] == ["audit_log"]


def test_deletion_of_two_users_is_refused(demonstrate):
    demonstrate(*DELETION, "delete from users where id = 3", status=4)


@pytest.mark.parametrize(("value", "expected"), [("none", False), ("Moderator", "Moderator")])
def test_admin_decides_which_role_admins_have(learn, tmp_path, value, expected):
    profile = tmp_path / "app.toml"
    learn("strapi", 12, profile, "--users", "up_users", "--admin", value)
    values = toml.loads(profile.read_text())
    assert values["users"]["admin"] == expected
    assert "admin" not in values.get("undecided", {})
