"""``profiles learn set-password``: formats, keys, columns that change with a password, and ended sign-ins."""

from __future__ import annotations

import io
import shlex
import shutil
import sqlite3
import sys
from contextlib import closing

import pytest

from dbctl.files import toml
from dbctl.model import Secret
from dbctl.profiles.passwords import compute_hmac, hash_password
from tests.extensions.drafts.learning.demonstrations import find_pair

PGADMIN = {
    "column": "password",
    "hmac_key": {"table": "keys", "column": "value", "only": {"name": "SECURITY_PASSWORD_SALT"}},
    "normal_form": "NFKD",
    "writes": "$pbkdf2-sha512$25000$",
}
DJANGO = {
    "column": "password",
    "writes": "pbkdf2_sha256$1000000$",
    "unusable": [""],
    "also": {"activity_at": ":now"},
}
#: By pair, the learned section of passwords.
SECTIONS = [
    ("mlflow", 5, {"column": "password_hash", "writes": "scrypt:32768:8:1$"}),
    ("label-studio", 5, DJANGO),
    ("label-studio", 6, DJANGO),
    ("calibre-web", 4, {"column": "password", "writes": "scrypt:32768:8:1$", "unusable": [""]}),
    ("pgadmin4", 4, PGADMIN),
    ("strapi", 4, {"column": "password", "writes": "$2a$10$", "also": {"published_at": ":now"}}),
    ("strapi", 20, {"column": "password", "writes": "$2a$10$"}),
]
#: An app with a key of passwords, and with two users.
SHOP = """
create table keys (name text primary key, value text not null);
insert into keys values ('session', 'a key of sessions'), ('PASSWORD_KEY', 'a key of passwords');
create table users (
    id integer primary key, username text not null unique, password_hash text not null, salt text not null default '',
    security_stamp text, token_version integer not null default 1, password_changed_at text, must_change boolean not null default 1,
    note text
);
create table sessions (id integer primary key, user_id integer not null references users (id), token text not null);
create table password_history (id integer primary key, user_id integer not null references users (id), hash text not null);
"""
ROWS = ("anna", "bert", "cleo", "dora")
PASSWORD = "Anna-pass-00002"


@pytest.mark.parametrize(("app", "number", "section"), SECTIONS)
def test_section_of_passwords_is_learned_from_application(learn, tmp_path, app, number, section):
    engines = ["postgresql"] if (app, number) == ("pgadmin4", 4) else []
    for engine in ["sqlite", *engines]:
        profile = tmp_path / f"{engine}.toml"
        learned = learn(app, number, profile, engine=engine)["data"]
        assert toml.loads(profile.read_text())["users"]["password"] == section
        assert [text for text in learned["decisions"] if text.startswith("passwords:")] == []
        pair = find_pair(app, number)
        assert learned["lines"][0]["evidence"] == f"learned: set-password, 1 demonstration ({pair.interface})"


def test_sessions_that_ended_with_own_password_are_sign_ins(learn, tmp_path):
    profile = tmp_path / "strapi.toml"
    learned = learn("strapi", 7, profile)["data"]
    (section,) = toml.loads(profile.read_text())["users"]["signed_in"]
    assert (section["table"], section["user"]) == ("strapi_sessions", "user_id")
    assert section["only"]["origin"] == "users-permissions"
    assert any(text.startswith("strapi_sessions:") for text in learned["unrelated"])


@pytest.mark.slow
def test_rows_of_log_and_of_caller_are_unrelated(learn, tmp_path):
    unrelated = learn("label-studio", 6, tmp_path / "labels.toml")["data"]["unrelated"]
    assert [text.partition(":")[0] for text in unrelated] == ["htx_user.last_activity", "django_admin_log"]


def test_new_user_shows_format_of_passwords_and_how_logins_are_compared(learn, tmp_path):
    profile = tmp_path / "pgadmin.toml"
    learn("pgadmin4", 21, profile)
    users = toml.loads(profile.read_text())["users"]
    assert (users["password"], users["match"]) == (PGADMIN, "exact")


# A small app ----------------------------------------------------------------------------------------------------------


class Shop:
    """Two states of the app, which a test changes."""

    def __init__(self, folder, run) -> None:
        self.before, self.after, self.profile = (
            folder / name for name in ("before.db", "after.db", "shop.toml")
        )
        self._run, self.password = run, PASSWORD
        for path in (self.before, self.after):
            with closing(sqlite3.connect(path)) as db:
                db.executescript(SHOP)
                for login in ROWS:
                    hashed = hash_password(Secret(f"{login}-old"), "$pbkdf2-sha512$9$")
                    db.execute("insert into users (username, password_hash) values (?, ?)", (login, hashed))
                db.commit()
        with closing(sqlite3.connect(self.before)) as before, closing(sqlite3.connect(self.after)) as after:
            before.backup(after)  # the same random salts

    def change(self, sql: str, *values: object, both: bool = False) -> None:
        for path in [self.before, self.after] if both else [self.after]:
            with closing(sqlite3.connect(path)) as db:
                db.execute(sql, values)
                db.commit()

    def set_hash(self, stored: str, login: str = "anna", more: str = "") -> None:
        self.change(f"update users set password_hash = ?{more} where username = ?", stored, login)

    def learn(self, *options: str, status: int = 0):
        words = (
            "profiles",
            "learn",
            "set-password",
            "--login",
            "anna",
            "--password-stdin",
            "--users",
            "users",
        )
        files = ("--before", str(self.before), "--after", str(self.after), "--to", str(self.profile))
        return self._run(self.password, *options, *words, *files, status=status)

    def section(self):
        return toml.loads(self.profile.read_text())["users"]["password"]


@pytest.fixture
def shop(tmp_path, answer, monkeypatch):
    def run(password, *words, status):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(password.encode())))
        return answer(*words, status=status)

    return Shop(tmp_path, run)


def test_columns_that_change_with_password_are_learned(shop):
    more = (
        ", security_stamp = '5b0e3b4e-7d3c-4d5e-9a51-0c9f7a3d2b11', token_version = 2, must_change = 0"
        ", password_changed_at = '2026-11-25T01:02:03Z'"
    )
    shop.set_hash(hash_password(Secret(PASSWORD), "$pbkdf2-sha512$9$"), more=more)
    shop.learn()
    assert shop.section()["also"] == {"password_changed_at": ":now", "must_change": False}
    users = toml.loads(shop.profile.read_text())["users"]
    assert users["on_sign_out"] == {"security_stamp": ":uuid4", "token_version": ":next"}


@pytest.mark.parametrize(
    ("value", "generator"),
    [
        ("'k3XmQ9ZrT0aLwYb7NcVu2PdHsE5jGf8Ri1oAtB4xKzMqJy6WnUhSvDlCpFe7'", ":alphanumeric-60"),
        ("cast('5b0e3b4e7d3c4d5e9a510c9f7a3d2b11' as blob)", ":hex-32"),  # as MediaWiki stores it
        ("'tz4a98xxat96iws9zmbrgj3a'", ":cuid2"),
    ],
)
def test_random_text_of_any_generator_that_changes_with_password_is_learned(shop, value, generator):
    shop.set_hash(hash_password(Secret(PASSWORD), "$pbkdf2-sha512$9$"), more=f", security_stamp = {value}")
    shop.learn()
    assert toml.loads(shop.profile.read_text())["users"]["on_sign_out"] == {"security_stamp": generator}


def test_digits_that_change_with_password_are_no_random_text(shop):
    more = ", note = '1767312000000000'"  # microseconds
    shop.set_hash(hash_password(Secret(PASSWORD), "$pbkdf2-sha512$9$"), more=more)
    assert any("users.note" in text for text in shop.learn()["data"]["decisions"])
    assert "also" not in shop.section()


def test_value_without_explanation_and_history_of_passwords_are_open_decisions(shop):
    stored = hash_password(Secret(PASSWORD), "$pbkdf2-sha512$9$")
    shop.set_hash(stored, more=", note = 'a text of the app'")
    shop.change("insert into password_history (user_id, hash) values (1, ?)", stored)
    decisions = shop.learn()["data"]["decisions"]
    assert any("users.note" in text for text in decisions)
    assert any("1 row of password_history" in text for text in decisions)
    assert "also" not in shop.section()


def test_hash_with_salt_in_other_column_is_learned(shop):
    salt, digest = "4571430df544de5d10033f0788162d26", "bf0c63f9ca0cf510ce2d66482a43d19f3869bb08"
    shop.change("update users set password_hash = ?, salt = ? where username = 'anna'", digest, salt)
    shop.password = "admin-pw-1"
    shop.learn()
    assert shop.section() == {
        "column": "password_hash",
        "prefix_columns": ["salt"],
        "writes": "redmine-sha1",
        "accepts": ["passlib-pbkdf2"],  # of the other users
    }


def test_key_of_hmac_is_accepted_only_if_it_verifies(shop):
    shop.set_hash(hash_password(compute_hmac(PASSWORD, Secret("a key elsewhere")), "$pbkdf2-sha512$9$"))
    (decision,) = [text for text in shop.learn()["data"]["decisions"] if text.startswith("passwords:")]
    assert "2 stored texts" in decision
    assert "a key of passwords" not in decision
    assert "writes" not in shop.section()
    shop.set_hash(hash_password(compute_hmac(PASSWORD, Secret("a key of passwords")), "$pbkdf2-sha512$9$"))
    shop.learn()
    assert shop.section()["hmac_key"] == {
        "table": "keys",
        "column": "value",
        "only": {"name": "PASSWORD_KEY"},
    }
    assert "passwords" not in toml.loads(shop.profile.read_text()).get("undecided", {})


def test_change_of_no_password_or_of_several_is_refused(shop):
    shop.change("update users set note = 'x' where username = 'anna'")
    assert shop.learn(status=4)["error"]["code"] == "demonstration-wrong"
    shop.set_hash(hash_password(Secret(PASSWORD), "$pbkdf2-sha512$9$"))
    shop.set_hash(hash_password(Secret("another one"), "$pbkdf2-sha512$9$"), login="bert")
    assert shop.learn(status=4)["error"]["code"] == "demonstration-wrong"
    assert not shop.profile.exists()


def configure_pepper(shop, pepper: str) -> tuple[str, ...]:
    """Configure the secret that the app appends to passwords; return the options that select the app."""
    folder = shop.profile.parent
    (folder / "pepper").write_text(pepper)
    config = folder / "dbctl.toml"
    config.write_text(
        '[apps.shop]\nprofile = "shop.toml"\npepper_file = "pepper"\n[apps.shop.databases]\nmain = "before.db"\n'
    )
    return "--config", str(config), "--app", "shop"


def test_configured_pepper_is_learned(shop):
    app = configure_pepper(shop, "fixture-pepper\n")
    shop.set_hash(hash_password(Secret(f"{PASSWORD}fixture-pepper"), "$pbkdf2-sha512$9$"))
    assert shop.learn()["data"]["lines"] == []
    shop.profile.unlink()
    shutil.rmtree(shop.profile.with_suffix(".recordings"))
    shop.learn(*app)
    section = {"column": "password_hash", "writes": "$pbkdf2-sha512$9$", "pepper": True}
    assert shop.section() == section
    # without a pepper, no password shows whether the app would append one
    app = configure_pepper(shop, "")
    shop.set_hash(hash_password(Secret(PASSWORD), "$pbkdf2-sha512$9$"))
    shop.learn(*app)
    assert shop.section() == section
    shop.set_hash(hash_password(Secret(PASSWORD), "$pbkdf2-sha512$9$"))
    shop.learn()
    assert "pepper" not in shop.section()


def test_configured_pepper_of_a_running_app_is_learned(shop, answer):
    app = configure_pepper(shop, "fixture-pepper\n")
    script = """import os, sqlite3, sys
from dbctl.model import Secret
from dbctl.profiles.passwords import hash_password
stored = hash_password(Secret(os.environ["DBCTL_PASSWORD"] + "fixture-pepper"), "$pbkdf2-sha512$9$")
with sqlite3.connect(sys.argv[1]) as db:
    db.execute("update users set password_hash = ? where username = 'anna'", [stored])"""
    action = shlex.join([sys.executable, "-c", script, str(shop.before)])
    words = [*app, "profiles", "learn", "set-password", "--login", "anna", "--users", "users", "--watch", "0"]
    answer(*words, "--after", action, "--to", str(shop.profile))
    assert shop.section()["pepper"] is True


def test_row_of_another_database_with_the_key_of_the_user_is_open(answer, tmp_path, monkeypatch):
    profile = tmp_path / "shop.toml"
    profile.write_text(
        'schema = "dbctl.profile/1"\nname = "shop"\ntitle = "Shop"\n'
        '[databases.main]\nengines = ["sqlite"]\nneeds = ["users"]\n'
        '[databases.extra]\nengines = ["sqlite"]\nneeds = ["vaults"]\n'
        '[users]\ntable = "users"\nid = { column = "id", codec = "autoincrement" }\nlogin = ["username"]\n'
        'fields = { username = "username" }\n'
    )
    main, extra = tmp_path / "main.db", tmp_path / "extra.db"
    for path, script in (
        (main, "create table users (id integer primary key, username text unique, hash text)"),
        (main, f"insert into users values (7, 'anna', '{hash_password(Secret('old'), '$2b$04$')}')"),
        (extra, "create table vaults (id integer primary key, owner integer, version integer)"),
        (extra, "insert into vaults values (1, 7, 1)"),
    ):
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(script)
    stored = hash_password(Secret(PASSWORD), "$2b$04$")
    changes = {main: f"update users set hash = '{stored}'", extra: "delete from vaults"}
    command = "; ".join(f"sqlite3 {path} {shlex.quote(sql)}" for path, sql in changes.items())
    words = ["--url", f"main={main}", "--url", f"extra={extra}", "profiles", "learn", "set-password"]
    words += ["--login", "anna", "--password-stdin", "--watch", "0", "--to", str(profile), "--after", command]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PASSWORD.encode())))
    learned = answer(*words)["data"]
    assert learned["decisions"] == ["passwords: the app also deletes 1 row of vaults"]
    assert not any(text.startswith("vaults") for text in learned["unrelated"])
