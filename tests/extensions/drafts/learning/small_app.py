"""A small app with a command line of its own: ``python small_app.py DATABASE COMMAND ...``, on SQLite or PostgreSQL.

It reads the login, the e-mail address and the password of ``dbctl profiles learn`` from the environment.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import uuid
from datetime import UTC, datetime

import bcrypt

TABLES = """
create table accounts (id {key}, login varchar(60) not null unique, email varchar(200) not null unique,
  password_hash varchar(100) not null, is_admin {boolean} not null, is_active {boolean} not null,
  created_at varchar(40) not null, updated_at varchar(40) not null, last_seen_at varchar(40));
create table profiles (account_id integer primary key references accounts (id), display_name varchar(60) not null);
create table sessions (token varchar(40) primary key, account_id integer not null references accounts (id), created_at varchar(40) not null);
create table event_log (id {key}, at varchar(40) not null, message varchar(200) not null);
create table notes (id {key}, account_id integer not null references accounts (id), title varchar(200) not null)
"""
TYPES = {
    "sqlite": {"key": "integer primary key", "boolean": "boolean"},
    "postgresql": {"key": "serial primary key", "boolean": "boolean"},
}


class App:
    """The app, with one open database; each command is one transaction."""

    def __init__(self, address):
        self.is_server = address.startswith("postgresql:")
        if self.is_server:
            import psycopg

            self.db = psycopg.connect(address)
        else:
            self.db = sqlite3.connect(address)

    def run(self, sql, *values):
        return self.db.execute(sql.replace("?", "%s") if self.is_server else sql, values)

    def install(self):
        for statement in TABLES.format(**TYPES["postgresql" if self.is_server else "sqlite"]).split(";"):
            self.run(statement)
        for number, login in enumerate(("admin", "bob", "carol", "dave"), 1):
            self.add(login, f"{login}@example.org", f"{login}-password", is_admin=number == 1)
        for number in range(8):
            self.run("insert into notes (account_id, title) values (?, ?)", number % 4 + 1, f"note {number}")

    def add(self, login, email, password, *, is_admin=False):
        now = self.now()
        self.run(
            "insert into accounts (login, email, password_hash, is_admin, is_active, created_at, updated_at) values (?, ?, ?, ?, ?, ?, ?)",
            login, email, hash_password(password), is_admin, True, now, now,
        )  # fmt: skip
        key = self.key(login)
        self.run("insert into profiles values (?, ?)", key, login)
        self.log(f"{login} was created")

    def set_password(self, login, password):
        values = (hash_password(password), self.now(), login)
        self.run("update accounts set password_hash = ?, updated_at = ? where login = ?", *values)
        self.run("delete from sessions where account_id = ?", self.key(login))
        self.log(f"the password of {login} was changed")

    def set_email(self, login, email):
        self.run("update accounts set email = ? where login = ?", email, login)

    def sign_in(self, login):
        self.run("insert into sessions values (?, ?, ?)", uuid.uuid4().hex, self.key(login), self.now())
        self.see(login)

    def see(self, login):
        self.run("update accounts set last_seen_at = ? where login = ?", self.now(), login)

    def log(self, message):
        self.run("insert into event_log (at, message) values (?, ?)", self.now(), message)

    def key(self, login):
        ((key,),) = self.run("select id from accounts where login = ?", login).fetchall()
        return key

    def now(self):
        return datetime.now(UTC).isoformat(timespec="microseconds")


def hash_password(password):
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def main(address, command, *arguments):
    app = App(address)
    environment = [os.environ.get(f"DBCTL_{name}", "") for name in ("LOGIN", "EMAIL", "PASSWORD")]
    login, email, password = environment
    match command:
        case "install":
            app.install()
        case "add":
            app.add(login, email, password)
        case "set-password":
            app.set_password(login, password)
        case "set-email":
            app.set_email(*arguments)
        case "sign-in":
            app.sign_in(*(arguments or [login]))
        case "add-another":
            app.add(arguments[0], f"{arguments[0]}@example.org", "other-password")
        case "log":
            app.log(*arguments)
        case "see":
            app.see(*arguments)
        case "fail":
            print(f"refused: {password} is too short")
            sys.exit(3)
    app.db.commit()
    app.db.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
