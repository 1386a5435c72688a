"""Databases of real applications, as ``APP.toml`` describes them: tables, rows and expected results."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from dbctl.profiles import loader
from dbctl.profiles.codecs import TIMES, read_time
from dbctl.profiles.model.profile import Profile
from dbctl.profiles.templates import change_prefix
from tests import servers
from tests.databases import ComparedDatabase, File, MySQL
from tests.profiles.apps import hashes

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))
#: Types and constants of the engines, for ``@name@`` in a schema.
WORDS: Mapping[str, Mapping[str, str]] = {
    "sqlite": {
        "serial": "integer primary key autoincrement",
        "uuid": "varchar(36)",
        "bool": "boolean",
        "time": "datetime",
        "naive": "datetime",
        "json": "json",
        "bytes": "blob",
        "binary": "",
        "true": "1",
        "false": "0",
    },
    "postgresql": {
        "serial": "serial primary key",
        "uuid": "uuid",
        "bool": "boolean",
        "time": "timestamptz",
        "naive": "timestamp",
        "json": "jsonb",
        "bytes": "bytea",
        "true": "true",
        "false": "false",
    },
    "mysql": {
        "serial": "int auto_increment primary key",
        "uuid": "char(36)",
        "bool": "tinyint(1)",
        "time": "datetime(3)",
        "naive": "datetime",
        "json": "json",
        "bytes": "longblob",
        "binary": "character set binary",
        "true": "1",
        "false": "0",
    },
}
PAST, FUTURE = "2020-01-01 00:00:00", "2036-01-01 00:00:00"
PASSWORD = "correct horse 42"


def read_expectations(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text())


def load_profile(name: str) -> Profile:
    """Return a built-in profile with the prefix of the test schema."""
    profile = loader.load(name)
    return change_prefix(profile, read_expectations(name).get("prefix", profile.prefix))


def fill(name: str, database: ComparedDatabase) -> Mapping[str, str]:
    """Create the tables and rows of an application in an empty database; return the words of its engine."""
    expected, profile = read_expectations(name), load_profile(name)
    words = dict(WORDS[database.engine])
    encode = TIMES[profile.time] if database.engine == "sqlite" else None
    for word, text in (("past", PAST), ("future", FUTURE)):
        time = read_time(text)
        assert time is not None
        words[word] = str(encode(time)) if encode else text
    password = profile.users and profile.users.password
    writes = password.writes if password else ""
    words |= {"hash": hashes.create_hash(writes, hash_input(name, PASSWORD)), "salt": hashes.SALT}
    for part in ("schema", "rows"):
        run_sql(database, words, expected[part])
    return words


def hash_input(name: str, password: str) -> str:
    """Return the text that an application hashes of a password: with its pepper, or an HMAC."""
    users = load_profile(name).users
    if users and users.password and users.password.hmac_key:
        return hashes.compute_hmac(password)
    return password + str(read_expectations(name).get("pepper", ""))


def run_sql(database: ComparedDatabase, words: Mapping[str, str], text: str) -> None:
    """Run statements in which ``@name@`` is a word of the engine."""
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    database.run(*filter(str.strip, text.split(";\n")))


def deploy(name: str, folder: Path, server: servers.Url | None = None) -> None:
    """Create the folder of a deployed application: a SQLite file, or the settings of WordPress with a new database on ``server``."""
    folder.mkdir()
    if server is None:
        fill(name, File(folder / "db.sqlite3"))
        return
    with closing(servers.mysql_connection(server)) as connection, connection.cursor() as cursor:
        cursor.execute(f"create database {name}")
    fill(name, MySQL(replace(server, path=name)))
    (folder / "wp-config.php").write_text(
        "<?php\n"
        f"define( 'DB_NAME', '{name}' );\n"
        "define( 'DB_USER', 'root' );\n"
        "define( 'DB_PASSWORD', '' );\n"
        f"define( 'DB_HOST', 'localhost:{server.options.partition('=')[2]}' );\n"
        "$table_prefix = 'blog_';\n"
    )
