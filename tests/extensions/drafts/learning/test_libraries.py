"""Passwords that dbctl sets by learned profiles, in the libraries with which the applications verify them."""

from __future__ import annotations

import gzip
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from django.contrib.auth import hashers
from flask import Flask
from flask_security import RoleMixin, Security, UserDatastore, UserMixin
from flask_security.utils import verify_password
from werkzeug import security

from tests import external_tools
from tests.extensions.drafts.learning.demonstrations import find_pair
from tests.profiles.apps.hashes import configure_django
from tests.servers import skip_or_fail

SET, CREATED = "Nova-pass-ſ-77", "Orla-pass-ſ-88"  # the normal forms of ſ differ


def check_werkzeug(password: str, stored: str, _database: Path) -> bool:
    return security.check_password_hash(stored, password)


def check_django(password: str, stored: str, _database: Path) -> bool:
    configure_django()
    return hashers.check_password(password, stored)


def check_flask_security(password: str, stored: str, database: Path) -> bool:
    """Verify a password as pgAdmin 4 does, with the key in its database."""
    ((salt,),) = query(database, "select value from keys where name = 'SECURITY_PASSWORD_SALT'")
    app = Flask("pgadmin")
    app.config |= {
        "SECRET_KEY": "-",
        "SECURITY_PASSWORD_SALT": salt,
        "SECURITY_PASSWORD_HASH": "pbkdf2_sha512",
        "SECURITY_PASSWORD_SCHEMES": ["pbkdf2_sha512"],
        "SECURITY_USE_REGISTER_V2": True,
    }
    user_model = type("User", (UserMixin,), {"fs_uniquifier": ""})
    Security(app, UserDatastore(user_model, RoleMixin))
    with app.app_context():
        return bool(verify_password(app.extensions["security"].password_util.normalize(password), stored))


def check_bcryptjs(password: str, stored: str, _database: Path) -> bool:
    folder = external_tools.node_hashers()
    if folder is None:
        skip_or_fail("npm cannot install the packages for password hashes")
    script = "const [a, b] = process.argv.slice(1); console.log(require('bcryptjs').compareSync(a, b))"
    command = ["node", "-e", script, password, stored]
    return (
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
        == "true"
    )


#: By application, the pair of setting a password, the stored hash, options of a new user, and the check of its library.
APPS: dict[str, tuple[int, str, str, Callable[[str, str, Path], bool]]] = {
    "mlflow": (4, "select password_hash from users where username = ?", "", check_werkzeug),
    "calibre-web": (
        3,
        "select password from user where name = ?",
        "--email nova@example.org",
        check_werkzeug,
    ),
    "label-studio": (
        5,
        "select password from htx_user where ? in (username, email)",
        "--email nova@example.org --set first_name=Nova",
        check_django,
    ),
    "pgadmin4": (4, "select password from user where ? in (username, email)", "", check_flask_security),
    "strapi": (
        4,
        "select password from up_users where username = ?",
        "--email nova@example.org",
        check_bcryptjs,
    ),
    "superset": (
        4,
        "select password from ab_user where username = ?",
        "--email nova@example.org --set first_name=Nova --set last_name=Ray",
        check_werkzeug,
    ),
    "uptime-kuma": (2, "select password from user where username = ?", "", check_bcryptjs),
}


def query(database: Path, sql: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as db:
        return db.execute(sql, values).fetchall()


@pytest.mark.slow
@pytest.mark.parametrize("app", APPS)
def test_library_of_application_accepts_passwords_of_dbctl(learn, start, tmp_path, app):
    number, select, options, accepts = APPS[app]
    profile, database = tmp_path / "app.toml", tmp_path / "app.db"
    learn(app, number, profile)
    pair = find_pair(app, number)
    with closing(sqlite3.connect(database)) as db:
        db.executescript(gzip.decompress(pair.before[0].read_bytes()).decode())
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.app]\nprofile = "{profile}"\n[apps.app.databases]\nmain = "sqlite:///{database}"\n'
    )
    for words, login, password in (
        (["set-password", pair.login], pair.login, SET),
        (["create", "nova", *options.split()], "nova", CREATED),
    ):
        result = start(
            "users",
            *words,
            "--password-stdin",
            "--yes",
            environment={},
            cwd=tmp_path,
            stdin=password.encode(),
        )
        assert result.returncode == 0, result.stderr
        ((stored,),) = query(database, select, login)
        assert accepts(password, str(stored), database)
        assert not accepts(f"{password}x", str(stored), database)
