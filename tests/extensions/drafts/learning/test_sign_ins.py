"""Learning from sign-ins: the tables that dbctl searches for the sign-ins of a user, and the time of the last login."""

from __future__ import annotations

import shutil
import sqlite3
import zlib
from base64 import urlsafe_b64encode
from contextlib import closing

import pytest

from dbctl.files import toml
from tests.extensions.drafts.learning.demonstrations import find_pair
from tests.extensions.drafts.learning.replays import load_states

#: By application and number of the demonstration, what is learned about its table of sessions.
SESSIONS = [
    (
        ("strapi", 6),
        {"table": "strapi_sessions", "user": "user_id", "only": {"origin": "users-permissions"}}
        | {"expires_at": "expires_at", "token": "session_id"},
    ),
    (
        ("strapi", 21),
        {"table": "strapi_sessions", "user": "user_id", "only": {"origin": "admin"}}
        | {"expires_at": "expires_at", "token": "session_id"},
    ),
    (
        ("calibre-web", 5),
        {"table": "user_session", "user": "user_id", "expires_at": "expiry", "token": "session_key"},
    ),
]


@pytest.mark.parametrize(("place", "expected"), SESSIONS)
def test_table_of_sessions_is_learned(learn, answer, tmp_path, place, expected):
    profile = tmp_path / "app.toml"
    learned = learn(*place, profile)["data"]
    (line,) = [line for line in learned["lines"] if line["key"] == "users.signed_in"]
    assert line["evidence"] == "learned: sign-in, 1 demonstration"
    assert expected in toml.loads(profile.read_text())["users"]["signed_in"]
    pair = find_pair(*place)
    options = ["--profile", str(profile)]
    with load_states(pair, tmp_path) as states:
        ended = [
            answer("sessions", "revoke", pair.login, "--yes", *options, "--url", url)["data"][
                "ended_sessions"
            ]
            for url in states
        ]
    assert ended[1] == ended[0] + 1


def test_evidence_belongs_to_table_that_demonstration_shows(learn, tmp_path):
    profile = tmp_path / "calibre.toml"
    learn("calibre-web", 5, profile)
    lines = profile.read_text().splitlines()
    headers = [index for index, line in enumerate(lines) if line == "[[users.signed_in]]"]
    assert [lines[index - 1] for index in headers] == ["# learned: sign-in, 1 demonstration", ""]
    assert (
        lines[headers[1] + 1]
        == 'table = "remote_auth_token"                  # tokens, with a time, of one user each'
    )


def test_section_about_other_kind_of_same_table_remains(learn, tmp_path):
    profile = tmp_path / "strapi.toml"
    learn("strapi", 6, profile)
    profile.write_text(profile.read_text().replace('origin = "users-permissions"', 'origin = "admin"'))
    shutil.copy(profile, tmp_path / "second.toml")
    learned = learn("strapi", 6, tmp_path / "second.toml")["data"]
    sections = toml.loads((tmp_path / "second.toml").read_text())["users"]["signed_in"]
    assert [section["only"]["origin"] for section in sections] == ["admin", "users-permissions"]
    assert [line["key"] for line in learned["lines"]] == ["users.signed_in"]


def test_decision_about_other_tables_remains(learn, tmp_path):
    profile = tmp_path / "strapi.toml"
    learn("strapi", 6, profile)
    decisions = toml.loads(profile.read_text())["undecided"]["sign-ins"]
    assert any("strapi_api_tokens " in decision for decision in decisions)
    assert not any("strapi_sessions " in decision for decision in decisions)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_time_of_last_login_is_learned(learn, tmp_path, engine):
    profile = tmp_path / "label-studio.toml"
    learned = learn("label-studio", 7, profile, engine=engine)["data"]
    assert [(line["key"], line["value"]) for line in learned["lines"]] == [
        ("users.fields.last_login_at", "last_login")
    ]
    assert "users: the app changes htx_user.active_organization_id at a sign-in" in learned["decisions"]


def test_row_of_first_visit_is_no_sign_in(learn, tmp_path):
    profile = tmp_path / "pgadmin.toml"
    learned = learn("pgadmin4", 6, profile)["data"]
    assert learned["lines"] == []
    assert any("user_preferences" in decision for decision in learned["decisions"])
    assert any("cookie" in note for note in learned["learned_notes"])
    assert "signed_in" not in toml.loads(profile.read_text())["users"]


def test_failed_sign_in_is_refused(answer, tmp_path):
    pair, profile = find_pair("pgadmin4", 9), tmp_path / "pgadmin.toml"
    files = ["--before", str(pair.before[0]), "--after", str(pair.after[0])]
    words = ["profiles", "learn", "sign-in", *files, "--login", pair.login, "--to", str(profile)]
    refused = answer(*words, status=4)
    assert refused["error"]["code"] == "demonstration-wrong"
    assert "login_attempts" in refused["error"]["message"]
    assert list(tmp_path.iterdir()) == []


HASH = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
TOKENS = ["0f3e2d1c4b5a69788796a5b4c3d2e1f0", "99f1e2d3c4b5a6978877665544332211"]
FORUM = f"""
    create table users (id integer primary key, username text not null unique, password text not null, active boolean not null,
        last_login text, sign_in_count integer not null default 0);
    create table sessions (id integer primary key, user_id integer, token text not null, expires_at text);
    create table django_session (session_key text primary key, session_data text not null, expire_date text not null);
    create table php_sessions (sid text primary key, data text, touched integer);
    create table api_tokens (id integer primary key, user_id integer references users (id), token text not null, expires_at text);
    create table login_history (id integer primary key, user_id integer references users (id), at text not null);
    insert into users values (1, 'root', '{HASH}', true, '2026-01-01T00:00:00.000Z', 3), (2, 'ida', '{HASH}', true, null, 0),
        (3, 'bo', '{HASH}', true, '2026-01-01T00:00:00.000Z', 1);
    insert into sessions values (1, 3, '{TOKENS[0]}', '2030-01-01T00:00:00.000Z');
    insert into php_sessions values ('{TOKENS[0]}', 'lang|s:2:"de";', 1790000000);
"""
SESSION = f"insert into sessions values (2, {{user}}, '{TOKENS[1]}', '2030-02-01T00:00:00.000Z')"
LOGIN = (
    "update users set last_login = '2026-02-03T04:05:06.000Z', sign_in_count = sign_in_count + 1 where id = 2"
)


def encode_django(text):
    """Return session data as Django signs and compresses it, with a signature that is not verified."""
    return f".{urlsafe_b64encode(zlib.compress(text.encode())).decode().rstrip('=')}:1tSgNs:x"


@pytest.fixture
def demonstrate(answer, tmp_path):
    """Learn from statements that sign ida in; return the result and the profile."""
    profile, state = tmp_path / "forum.toml", [FORUM]

    def run(*statements, action="sign-in", status=0, before=""):
        files = [tmp_path / "before.db", tmp_path / "after.db"]
        state[0] += before
        for file, script in zip(files, (state[0], state[0] + ";".join(statements)), strict=True):
            file.unlink(missing_ok=True)
            with closing(sqlite3.connect(file)) as connection:
                connection.executescript(script)
        words = ["--before", str(files[0]), "--after", str(files[1]), "--login", "ida", "--to", str(profile)]
        result = answer("profiles", "learn", action, *words, status=status)
        return (result["data"], toml.loads(profile.read_text())) if status == 0 else (result["error"], {})

    return run


def find_table(profile, table):
    return [entry for entry in profile["users"].get("signed_in", ()) if entry["table"] == table]


def test_session_and_last_login_are_learned_and_traces_are_unrelated(demonstrate):
    history = "insert into login_history values (1, 2, '2026-02-03T04:05:06.000Z')"
    learned, profile = demonstrate(SESSION.format(user=2), LOGIN, history)
    assert find_table(profile, "sessions") == [
        {"table": "sessions", "user": "user_id", "expires_at": "expires_at", "token": "token"}
    ]
    assert profile["users"]["fields"]["last_login_at"] == "last_login"
    unrelated = sorted(text.partition(":")[0] for text in learned["unrelated"])
    assert unrelated == ["login_history", "users.sign_in_count"]
    assert learned["decisions"] == []


def test_session_of_another_user_is_refused(demonstrate):
    error, _ = demonstrate(
        "insert into api_tokens values (1, 1, 'x', null)", SESSION.format(user=3), status=4
    )
    assert error["code"] == "demonstration-wrong"


def test_anonymous_session_that_gets_user_is_learned(demonstrate):
    anonymous = SESSION.format(user="null") + ";"
    _, profile = demonstrate("update sessions set user_id = 2 where id = 2", before=anonymous)
    assert [entry["user"] for entry in find_table(profile, "sessions")] == ["user_id"]


def test_user_in_payload_of_django_is_learned(demonstrate):
    data = encode_django('{"_auth_user_id": "2", "_auth_user_hash": "ab"}')
    statement = f"insert into django_session values ('{TOKENS[1]}', '{data}', '2030-02-01T00:00:00.000Z')"
    _, profile = demonstrate(statement, LOGIN)
    (section,) = find_table(profile, "django_session")
    assert section["payload"] == {"column": "session_data", "codec": "django", "key": "_auth_user_id"}
    assert "user" not in section


def test_user_in_other_encoding_is_an_open_decision(demonstrate):
    data = 'user_id|s:1:"2";'
    learned, profile = demonstrate(f"insert into php_sessions values ('{TOKENS[1]}', '{data}', 1790000100)")
    assert learned["lines"] == []
    (decision,) = learned["decisions"]
    assert "php_sessions" in decision
    assert "only in an encoded value (data)" in decision
    assert any("php_sessions" in text for text in profile["undecided"]["sign-ins"])
    assert not find_table(profile, "php_sessions")


def test_keys_of_programs_stay_open(demonstrate):
    learned, profile = demonstrate(
        f"insert into api_tokens values (1, 2, '{TOKENS[1]}', '2030-02-01T00:00:00.000Z')", LOGIN
    )
    assert any("api_tokens, which look like keys of programs" in text for text in learned["decisions"])
    assert not find_table(profile, "api_tokens")


def test_line_that_demonstration_contradicts_is_reported(demonstrate, tmp_path):
    demonstrate(SESSION.format(user=2))
    path = tmp_path / "forum.toml"
    path.write_text(path.read_text().replace('user = "user_id"', 'user = "id"', 1))
    learned, profile = demonstrate(
        "insert into sessions values (7, 2, 'ffee2d3c4b5a69788796a5b4c3d2e1f0', '2030-02-01T00:00:00.000Z')"
    )
    (line,) = learned["lines"]
    assert [entry["user"] for entry in line["replaced"]] == ["id"]
    assert [entry["user"] for entry in find_table(profile, "sessions")] == ["user_id"]


@pytest.mark.parametrize("written", ["", "on_end = {}\n"])
def test_second_demonstration_confirms_lines(demonstrate, tmp_path, written):
    demonstrate(SESSION.format(user=2), LOGIN)
    path = tmp_path / "forum.toml"
    path.write_text(path.read_text().replace('user = "user_id"\n', f'user = "user_id"\n{written}', 1))
    learned, _ = demonstrate(
        "insert into sessions values (7, 2, 'ffee2d3c4b5a69788796a5b4c3d2e1f0', '2030-02-01T00:00:00.000Z')",
        LOGIN,
    )
    assert {line["evidence"] for line in learned["lines"]} == {"learned: sign-in, 2 demonstrations"}
    assert [(line["replaced"], line["unchanged"]) for line in learned["lines"]] == [
        (None, True),
        (None, True),
    ]


def test_sign_in_is_not_replayed(demonstrate, answer, tmp_path):
    demonstrate(SESSION.format(user=2), LOGIN)
    (replay,) = answer("profiles", "prove", str(tmp_path / "forum.toml"))["data"]["recordings"]
    assert (replay["status"], replay["reason"]) == ("not-possible", "dbctl has no command for sign-in")


# Sign-outs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [("strapi", 24), ("calibre-web", 11)])
def test_sign_out_is_learned_and_proven(learn, answer, tmp_path, place):
    profile = tmp_path / "app.toml"
    pair = find_pair(*place)
    learned = learn(*place, profile, "--admin", "none")["data"]
    (line,) = [line for line in learned["lines"] if line["key"] == "users.signed_in"]
    assert line["evidence"] == "learned: sign-out, 1 demonstration"
    (replay,) = answer("profiles", "prove", str(profile))["data"]["recordings"]
    assert (replay["status"], replay["command"]) == ("proven", f"sessions revoke -- {pair.login}")
    assert replay["rows"] == 1


OWN = SESSION.format(user=2) + ";"


def test_deleted_session_confirms_section(demonstrate):
    demonstrate(SESSION.format(user=2))
    learned, profile = demonstrate("delete from sessions where id = 2", action="sign-out", before=OWN)
    (line,) = learned["lines"]
    assert (line["replaced"], line["evidence"]) == (None, "learned: sign-out, 1 demonstration")
    assert "on_end" not in find_table(profile, "sessions")[0]


def test_marked_session_shows_how_sign_ins_end(demonstrate, answer, tmp_path):
    before = "alter table sessions add revoked boolean not null default false; alter table sessions add revoked_at text;"
    before += "insert into sessions (id, user_id, token, expires_at) values (2, 2, 'ffee2d3c4b5a69788796a5b4c3d2e1f0', '2030-02-01T00:00:00.000Z');"
    ended = "update sessions set revoked = true, revoked_at = '2026-02-03T04:05:06.000Z' where id = 2"
    learned, profile = demonstrate(ended, action="sign-out", before=before)
    assert [line["unchanged"] for line in learned["lines"]] == [False]
    (section,) = find_table(profile, "sessions")
    assert section["on_end"] == {"revoked": True, "revoked_at": ":now"}


def test_deletion_contradicts_values_that_end_sign_ins(demonstrate, tmp_path):
    demonstrate(SESSION.format(user=2))
    path = tmp_path / "forum.toml"
    path.write_text(
        path.read_text().replace('user = "user_id"\n', 'user = "user_id"\non_end = { token = "x" }\n', 1)
    )
    learned, profile = demonstrate("delete from sessions where id = 2", action="sign-out", before=OWN)
    (line,) = learned["lines"]
    assert line["replaced"][0]["on_end"] == {"token": "x"}
    assert "on_end" not in find_table(profile, "sessions")[0]


def test_other_sign_ins_of_user_are_remarked_and_ended_by_dbctl(demonstrate, answer, tmp_path):
    other = (
        "insert into sessions values (3, 2, 'ffee2d3c4b5a69788796a5b4c3d2e1f0', '2030-02-01T00:00:00.000Z');"
    )
    learned, _ = demonstrate("delete from sessions where id = 2", action="sign-out", before=OWN + other)
    assert any("1 other sign-in" in note for note in learned["learned_notes"])
    profile = tmp_path / "forum.toml"
    assert find_table(toml.loads(profile.read_text()), "sessions")
    replays = answer("profiles", "prove", str(profile), status=None)["data"]["recordings"]
    assert [(replay["status"], replay["rows"], replay["own"]) for replay in replays] == [("proven", 1, 1)]


def test_sign_out_of_another_user_is_refused(demonstrate):
    error, _ = demonstrate("delete from sessions where id = 1", action="sign-out", status=4)
    assert error["code"] == "demonstration-wrong"


def test_stamp_of_user_stays_open(demonstrate):
    before = "alter table users add session_stamp text not null default 'aaaa';"
    learned, _ = demonstrate(
        "update users set session_stamp = 'bbbb' where id = 2", action="sign-out", before=before
    )
    assert learned["lines"] == []
    assert any("users.on_sign_out" in decision for decision in learned["decisions"])


def test_sign_out_with_encoded_user_is_an_open_decision(demonstrate):
    learned, _ = demonstrate("delete from php_sessions", action="sign-out")
    assert learned["lines"] == []
    assert any("only in an encoded value (data)" in decision for decision in learned["decisions"])


def test_sign_out_is_not_replayed_without_known_sign_ins(demonstrate, answer, tmp_path):
    demonstrate("delete from php_sessions", action="sign-out")
    profile = tmp_path / "forum.toml"
    parts = profile.read_text().split("\n\n")
    profile.write_text("\n\n".join(part for part in parts if "[[users.signed_in]]" not in part))
    assert "signed_in" not in toml.loads(profile.read_text())["users"]
    (replay,) = answer("profiles", "prove", str(profile))["data"]["recordings"]
    assert (replay["status"], replay["reason"]) == (
        "not-possible",
        "the profile names no sign-ins that dbctl can end",
    )
