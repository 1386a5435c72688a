"""Learning from a reset of second factors, and its replay by ``users reset-2fa``."""

from __future__ import annotations

import shlex
import sqlite3
from contextlib import closing

import pytest

from dbctl.files import toml
from tests import servers
from tests.databases import empty_database
from tests.extensions.drafts.learning.demonstrations import find_pair
from tests.extensions.drafts.learning.replays import load_states

HASH = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
SCHEMA = f"""
    create table users (id integer primary key, username varchar(60) not null unique, password_hash varchar(100) not null,
        otp_enabled boolean not null default false, otp_secret varchar(100), confirmed_at varchar(40), updated_at varchar(40));
    create table backup_codes (id integer primary key, user_id integer not null references users (id), code varchar(60));
    create table security_keys (id integer primary key, user_id integer not null references users (id), key varchar(60));
    create table audit_log (id integer primary key, at varchar(40) not null, line varchar(200) not null);
    insert into users values (1, 'ada', '{HASH}', true, 's1', '2026-11-01T09:00:00.000Z', '2026-11-01T09:00:00.000Z'),
        (2, 'bo', '{HASH}', true, 's2', '2026-11-01T09:00:00.000Z', '2026-11-01T09:00:00.000Z');
    insert into backup_codes values (1, 1, 'a'), (2, 2, 'b'), (3, 2, 'c');
    insert into security_keys values (1, 1, 'k1'), (2, 2, 'k2')
"""
RESET = (
    "update users set otp_enabled = false, otp_secret = null, confirmed_at = null, updated_at = '2026-11-26T09:00:00.000Z' where id = 2",
    "delete from backup_codes where user_id = 2",
    "delete from security_keys where user_id = 2",
    "insert into audit_log values (1, '2026-11-26T09:00:00.000Z', 'reset of bo')",
)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_reset_is_learned_and_proven(answer, tmp_path, engine):
    profile = tmp_path / "app.toml"
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(*SCHEMA.split(";"))
        program = "sqlite3" if engine == "sqlite" else "psql -q -v ON_ERROR_STOP=1"
        words = ["--url", database.url, "profiles", "learn", "reset-2fa", "--login", "bo", "--watch", "0"]
        words += ["--admin", "none", "--to", str(profile)]

        def learn(*statements: str, status: int = 0):
            option = "-c" if engine == "postgresql" else ""
            line = f"{program} {shlex.quote(database.url)} {option} {shlex.quote(';'.join(statements))}"
            return answer(*words, "--after", line, status=status)

        error = learn("insert into audit_log values (9, 'now', 'nothing')", status=4)["error"]
        assert (error["code"], profile.exists()) == ("demonstration-wrong", False)
        learn(*RESET)
        learned = toml.loads(profile.read_text())
        assert "second-factors" not in learned.get("undecided", {})
        columns, *rows = learned["users"]["second_factor"]
        assert columns == {
            "name": "totp",
            "table": "users",
            "user": "id",
            "on_reset": {"otp_enabled": False, "otp_secret": ":null", "confirmed_at": ":null"},
            "confirmed": {"otp_enabled": True},
        }
        assert {row["table"]: (row["name"], row["user"], row.get("required")) for row in rows} == {
            "backup_codes": ("recovery-codes", "user_id", False),
            "security_keys": ("webauthn", "user_id", None),
        }
        server = ["--url", str(servers.postgresql())] if engine == "postgresql" else []
        (replay,) = answer(*server, "profiles", "prove", str(profile), status=None)["data"]["recordings"]
        assert (replay["status"], replay["command"]) == ("proven", "users reset-2fa -- bo")
        # the other user still has each of them
        app = ["--profile", str(profile), "--url", f"main={database.url}"]
        assert answer("users", "show", "ada", *app)["data"]["second_factor"] == {
            "required": True,
            "factors": {"totp": 1, "recovery-codes": 1, "webauthn": 1},
        }
        profile.write_text(profile.read_text().replace('otp_secret = ":null"', 'otp_secret = ""'))
        replay = answer(*server, "profiles", "prove", str(profile), status=None)["data"]["recordings"][0]
        assert replay["status"] == "failed"


def read_users(path):
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        return [{**row, "updatedAt": ""} for row in db.execute('select * from "user" order by id')]


#: By application, the pair of its own reset, the columns that only dbctl empties, and how long its cookies remain valid.
RECORDED = {
    "uptime-kuma": (6, ("twofa_secret", "twofa_last_token"), "an unlimited time"),
    "n8n": (9, (), "7 days"),
}


@pytest.mark.parametrize("app", RECORDED)
def test_reset_ends_in_the_state_that_the_app_writes(answer, tmp_path, app):
    number, emptied, signed_in_for = RECORDED[app]
    pair = find_pair(app, number)
    with load_states(pair, tmp_path) as (changed, expected):
        options = ["--profile", app, "--url", f"main={changed}"]
        assert answer("users", "show", pair.login, *options)["data"]["second_factor"]["required"]
        data = answer("users", "reset-2fa", pair.login, *options)["data"]
        assert (data["removed"]["totp"], data["signed_in_for"]) == (1, signed_in_for)
        assert answer("users", "show", pair.login, *options)["data"]["second_factor"]["required"] is False
        assert read_users(changed) == [row | dict.fromkeys(emptied) for row in read_users(expected)]
