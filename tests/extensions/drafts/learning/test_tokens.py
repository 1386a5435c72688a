"""Learning from a new API token: which columns have its secret, and in which form, and whose tokens there are."""

from __future__ import annotations

import hashlib
import io
import shlex
import sys
from base64 import b64encode

import bcrypt
import pytest

from dbctl.extensions.drafts.learning.learn import list_rules
from dbctl.extensions.drafts.learning.recordings import ACTIONS
from dbctl.files import toml
from tests import servers
from tests.databases import empty_database
from tests.extensions.drafts.learning.demonstrations import find_pair

HASH = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
SCHEMA = f"""
    create table users (id integer primary key, username varchar(60) not null unique, password_hash varchar(100) not null,
        api_key varchar(100), seen_at varchar(40), active boolean not null);
    create table api_tokens (id integer primary key, user_id integer not null references users (id), name varchar(60) not null,
        start varchar(20), token varchar(200) not null, scopes varchar(100), kind varchar(20), created_at varchar(40) not null,
        revoked boolean);
    create table app_keys (id integer primary key, name varchar(60) not null, secret_key varchar(100) not null);
    create table audit_log (id integer primary key, at varchar(40) not null, line varchar(200) not null);
    insert into users values (1, 'ada', '{HASH}', null, null, true), (2, 'bo', '{HASH}', null, null, true),
        (3, 'cy', '{HASH}', null, null, false)
"""
TOKEN = "9f2c7A41d0E8b3657a1C4f90Be62d817"
NOW = "2026-11-25T09:00:00.000Z"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def insert(stored: str, *, user: int = 2, start: str = "", kind: str = "") -> str:
    values = f"7, {user}, 'ci', '{start}', '{stored}', 'read,write', '{kind}', '{NOW}', false"
    return f"insert into api_tokens values ({values})"


class TokenApp:
    """An app on SQLite or PostgreSQL, whose actions are SQL statements, and its profile."""

    def __init__(self, database, folder, answer, monkeypatch) -> None:
        self.database, self.profile = database, folder / "app.toml"
        self._answer, self._monkeypatch = answer, monkeypatch
        database.run(*SCHEMA.split(";"))

    def learn(self, *statements: str, token: str = "", status: int = 0, action: str = "create-token"):
        """Watch the statements as an action of bo, and return the result, or the error."""
        program = "sqlite3" if self.database.engine == "sqlite" else "psql -q -v ON_ERROR_STOP=1"
        options = "-c" if self.database.engine == "postgresql" else ""
        url, sql = shlex.quote(self.database.url), shlex.quote(";".join(statements))
        words = ["--url", self.database.url, "profiles", "learn", action, "--login", "bo", "--watch", "0"]
        words += ["--admin", "none"] if action == "deactivate" else []
        words += ["--to", str(self.profile), "--after", f"{program} {url} {options} {sql}"]
        if token:
            self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(token.encode())))
            words.append("--password-stdin")
        result = self._answer(*words, status=status)
        return result["data"] if status == 0 else result["error"]

    def run(self, *words: str):
        options = ["--profile", str(self.profile), "--url", self.database.url]
        return self._answer(*words, *options)["data"]

    def read(self) -> dict:
        return toml.loads(self.profile.read_text())


@pytest.fixture
def token_app(tmp_path, answer, monkeypatch):
    with empty_database("sqlite", tmp_path / "app.db") as database:
        yield TokenApp(database, tmp_path, answer, monkeypatch)


def test_every_action_has_a_rule():
    assert list_rules().keys() == {*ACTIONS}


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_table_of_tokens_is_learned(tmp_path, answer, monkeypatch, engine):
    with empty_database(engine, tmp_path / "app.db") as database:
        app = TokenApp(database, tmp_path, answer, monkeypatch)
        learned = app.learn(
            insert(sha256(TOKEN)),
            f"update users set seen_at = '{NOW}' where id = 2",
            f"insert into audit_log values (1, '{NOW}', 'a new token')",
            token=TOKEN,
        )
        assert {line["key"]: line["evidence"] for line in learned["lines"]} == dict.fromkeys(
            ["databases.main.secret", "users.counts"], "learned: create-token, 1 demonstration"
        )
        assert learned["learned_notes"] == ["api_tokens.token has the SHA-256 digest of the token"]
        assert learned["decisions"] == [
            "sign-ins: whether rows of api_tokens end with a new password or a deactivation: they are API tokens of users"
        ]
        assert [text.partition(":")[0] for text in learned["unrelated"]] == ["audit_log", "users.seen_at"]
        profile = app.read()
        assert profile["users"]["counts"] == {"api_tokens": "api_tokens.user_id"}
        assert "api_tokens.token" in profile["databases"]["main"]["secret"]
        (decision,) = [text for text in profile["undecided"]["sign-ins"] if "api_tokens" in text]
        assert decision in learned["decisions"][0]
        assert app.run("users", "show", "bo")["statistics"] == {"api_tokens": 1}
        (row,) = app.run("data", "rows", "api_tokens")["items"]
        assert (row["token"], row["name"]) == ("***", "ci")
        texts = [app.profile, *app.profile.with_suffix(".recordings").glob("*/recording.json")]
        assert not any(TOKEN in text.read_text() for text in texts)


def bcrypt_hash(text: str) -> str:
    # The same in each process that collects the tests, which compare their names.
    return bcrypt.hashpw(text.encode(), b"$2b$04$" + b"u" * 22).decode()


@pytest.mark.parametrize(
    ("token", "stored", "form"),
    [
        (TOKEN, TOKEN, "the token itself, in clear text"),
        (f"12|{TOKEN}", sha256(TOKEN), "the SHA-256 digest of a part of the token"),
        (f"12|{TOKEN}", TOKEN, "a part of the token, in clear text"),
        (f"app_{TOKEN}", sha256(f"app_{TOKEN}"), "the SHA-256 digest of the token"),
        (TOKEN, hashlib.sha512(TOKEN.encode()).hexdigest(), "the SHA-512 digest of the token"),
        (
            TOKEN,
            b64encode(hashlib.sha256(TOKEN.encode()).digest()).decode(),
            "the SHA-256 digest of the token",
        ),
        (TOKEN, bcrypt_hash(TOKEN), "a hash of the token in the format bcrypt"),
        (TOKEN, TOKEN[:20], "the beginning of the token, in clear text"),
        (TOKEN, sha256("another"), "64 hex digits: the token itself, or made of it"),
        ("", TOKEN, "32 hex digits: the token itself, or made of it"),
        ("", bcrypt_hash(TOKEN), "a hash in the format bcrypt"),
        ("", "glpat-x9Xv2fJ1kQ_8aZ3L", "a GitLab token, in clear text"),
    ],
)
def test_form_of_stored_token_is_learned(token_app, token, stored, form):
    learned = token_app.learn(insert(stored), token=token)
    assert learned["learned_notes"][0] == f"api_tokens.token has {form}"
    hint = [note for note in learned["learned_notes"] if "--password-stdin" in note]
    assert bool(hint) == ("or made of it" in form)
    assert "api_tokens.token" in token_app.read()["databases"]["main"]["secret"]


def test_beginning_of_token_is_no_secret(token_app):
    learned = token_app.learn(insert(sha256(TOKEN), start=TOKEN[:8]), token=f"app_{TOKEN}")
    assert any("api_tokens.start has the beginning" in note for note in learned["learned_notes"])
    assert "api_tokens.start" not in token_app.read()["databases"]["main"]["secret"]


def test_second_demonstration_confirms_lines(token_app):
    token_app.learn(insert(sha256(TOKEN)))
    learned = token_app.learn(insert(sha256("another")).replace("(7, 2", "(8, 2"))
    evidence = {line["evidence"] for line in learned["lines"]}
    assert evidence == {"learned: create-token, 2 demonstrations"}
    assert [line["replaced"] for line in learned["lines"]] == [None, None]


def test_only_tokens_of_the_kind_are_counted(token_app):
    others = "".join(
        f"({number}, {number}, 'x', '', 'ffff{number}', '', 'session', '{NOW}', false),"
        for number in (1, 2, 3)
    )
    token_app.database.run(f"insert into api_tokens values {others.rstrip(',')}")
    token_app.learn(insert(TOKEN, kind="api"))
    assert token_app.read()["users"]["counts"] == {"api_tokens": "api_tokens[kind=api].user_id"}
    assert token_app.run("users", "show", "bo")["statistics"] == {"api_tokens": 1}


def test_token_in_the_row_of_the_user(token_app):
    learned = token_app.learn(f"update users set api_key = '{sha256(TOKEN)}', seen_at = '{NOW}' where id = 2")
    assert [line["key"] for line in learned["lines"]] == ["databases.main.secret"]
    assert "users.api_key" in token_app.read()["databases"]["main"]["secret"]
    (decision,) = learned["decisions"]
    assert "whether a new password or a deactivation changes users.api_key" in decision


def test_token_without_a_user(token_app):
    learned = token_app.learn(f"insert into app_keys values (1, 'ci', '{TOKEN}')")
    assert [line["key"] for line in learned["lines"]] == ["databases.main.secret"]
    assert any("no column of app_keys has the key of the user" in note for note in learned["learned_notes"])
    assert not any("app_keys" in text for text in learned["decisions"])


def test_tokens_that_the_profile_takes_for_sign_ins_remain_so(token_app):
    token_app.learn(insert(TOKEN))
    section = '\n[[users.signed_in]]\ntable = "api_tokens"\nuser = "user_id"\ntoken = "token"\n'
    token_app.profile.write_text(token_app.profile.read_text() + section)
    learned = token_app.learn(insert(sha256(TOKEN)).replace("(7, 2", "(8, 2"))
    assert learned["decisions"] == []
    assert any("users.signed_in has api_tokens" in note for note in learned["learned_notes"])


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (insert(TOKEN, user=3), "the tokens in api_tokens are those of other users"),
        ("update api_tokens set name = 'other'", "no row was added, or changed, that has a token"),
        ("delete from api_tokens", "no row was added, or changed, that has a token"),
    ],
)
def test_wrong_demonstration_is_refused(token_app, statement, reason):
    token_app.database.run(insert(sha256("earlier")).replace("(7, 2", "(1, 2"))
    error = token_app.learn(statement, status=4)
    assert error["code"] == "demonstration-wrong"
    assert reason in error["message"]
    assert not token_app.profile.exists()


def test_recording_of_a_token_is_not_replayed(token_app, answer):
    token_app.learn(insert(TOKEN))
    (replay,) = answer("profiles", "prove", str(token_app.profile))["data"]["recordings"]
    assert (replay["status"], replay["reason"]) == ("not-possible", "dbctl has no command for create-token")


# What ends tokens -----------------------------------------------------------------------------------------------------

PASSWORD = "new-Secret-1"
NEW_PASSWORD = f"update users set password_hash = '{bcrypt_hash(PASSWORD)}' where id = 2"
DEACTIVATED = "update users set active = false where id = 2"
DELETED = "delete from api_tokens where user_id = 2"


def prove(app, answer) -> dict[str, tuple[str, int]]:
    """Replay the recordings; return status and compared rows by action."""
    server = ["--url", str(servers.postgresql())] if app.database.engine == "postgresql" else []
    replays = answer(*server, "profiles", "prove", str(app.profile), status=None)["data"]["recordings"]
    return {replay["action"]: (replay["status"], replay["rows"]) for replay in replays}


def list_decisions(app) -> list[str]:
    texts = app.read().get("undecided", {}).get("sign-ins", [])
    return [text for text in texts if " rows of api_tokens " in text]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_tokens_that_end_with_password_are_sign_ins(tmp_path, answer, monkeypatch, engine):
    with empty_database(engine, tmp_path / "app.db") as database:
        app = TokenApp(database, tmp_path, answer, monkeypatch)
        app.learn(insert(sha256(TOKEN)))
        assert len(list_decisions(app)) == 1
        app.learn(NEW_PASSWORD, DELETED, token=PASSWORD, action="set-password")
        (section,) = app.read()["users"]["signed_in"]
        assert section == {"table": "api_tokens", "user": "user_id", "token": "token"}
        assert list_decisions(app) == []
        assert prove(app, answer)["set-password"] == ("proven", 2)


def test_tokens_that_a_new_password_keeps_are_no_sign_ins(token_app, answer):
    token_app.learn(insert(sha256(TOKEN)))
    learned = token_app.learn(NEW_PASSWORD, token=PASSWORD, action="set-password")
    assert (
        "the app retains the rows of api_tokens of the user with a new password" in learned["learned_notes"]
    )
    assert list_decisions(token_app) == []
    assert "signed_in" not in token_app.read()["users"]
    assert prove(token_app, answer)["set-password"] == ("proven", 1)


@pytest.mark.parametrize(
    ("action", "statement"), [("set-password", NEW_PASSWORD), ("deactivate", DEACTIVATED)]
)
def test_tokens_that_are_marked_as_ended(token_app, answer, action, statement):
    token_app.learn(insert(sha256(TOKEN)))
    revoked = "update api_tokens set revoked = true where user_id = 2"
    token_app.learn(statement, revoked, token=PASSWORD if action == "set-password" else "", action=action)
    (section,) = token_app.read()["users"]["signed_in"]
    assert section["on_end"] == {"revoked": True}
    assert prove(token_app, answer)[action] == ("proven", 2)


def test_tokens_that_end_with_a_deactivation_are_sign_ins(token_app, answer):
    token_app.learn(insert(sha256(TOKEN)))
    learned = token_app.learn(DEACTIVATED, DELETED, action="deactivate")
    assert "users set-password ends the rows of api_tokens, too" in learned["learned_notes"]
    assert [section["table"] for section in token_app.read()["users"]["signed_in"]] == ["api_tokens"]
    assert list_decisions(token_app) == []
    assert prove(token_app, answer)["deactivate"] == ("proven", 2)


def test_tokens_that_a_deactivation_keeps_stay_open(token_app):
    token_app.learn(insert(sha256(TOKEN)))
    learned = token_app.learn(DEACTIVATED, action="deactivate")
    assert learned["learned_notes"] == ["the app retains the rows of api_tokens of a deactivated user"]
    assert len(list_decisions(token_app)) == 1


def test_end_of_some_tokens_stays_open(token_app):
    token_app.learn(insert(sha256(TOKEN)))
    token_app.database.run(insert("0" * 40).replace("(7, 2", "(8, 2"))
    token_app.learn(
        NEW_PASSWORD, "delete from api_tokens where id = 8", token=PASSWORD, action="set-password"
    )
    assert "signed_in" not in token_app.read()["users"]
    assert len(list_decisions(token_app)) == 1


# The applications -----------------------------------------------------------------------------------------------------

#: By application, number and engine of the demonstration, the learned path of tokens, and those of its secrets that the draft lacks.
PAIRS = [
    (("calibre-web", 12), "sqlite", "remote_auth_token.user_id", set()),
    *(
        (
            ("label-studio", 13),
            engine,
            "token_blacklist_outstandingtoken.user_id",
            {"token_blacklist_outstandingtoken.token"},
        )
        for engine in ("sqlite", "postgresql")
    ),
    (("strapi", 29), "sqlite", "", {"strapi_api_tokens.encrypted_key", "strapi_api_tokens.access_key"}),
]


@pytest.mark.parametrize(("place", "engine", "path", "secrets"), PAIRS)
def test_tokens_of_application_are_learned(learn, tmp_path, place, engine, path, secrets):
    profile = tmp_path / "app.toml"
    learned = learn(*place, profile, engine=engine)["data"]
    values = toml.loads(profile.read_text())
    assert [*values["users"].get("counts", {}).values()] == ([path] if path else [])
    assert secrets <= {*values["databases"]["main"]["secret"]}
    assert learned["tables"][-1] == (path or "strapi_api_tokens.").rpartition(".")[0]


@pytest.mark.slow
def test_replaced_token_is_learned(answer, tmp_path):
    pair, profile = find_pair("label-studio", 15), tmp_path / "app.toml"
    files = ["--before", str(pair.before[0]), "--after", str(pair.after[0])]
    words = ["profiles", "learn", "create-token", *files, "--login", pair.login, "--to", str(profile)]
    learned = answer(*words)["data"]
    assert "the app replaces the earlier token of the user in authtoken_token" in learned["learned_notes"]
    assert "authtoken_token.key" in toml.loads(profile.read_text())["databases"]["main"]["secret"]
