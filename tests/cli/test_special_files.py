"""Configured files must be regular and of limited size; other files are refused without blocking."""

from __future__ import annotations

import json
import os
import socket

import pytest

from dbctl.files.toml import MAX_CHARACTERS
from tests.services.flashpoint_app import copy_configured_deployment

CONFIG = """[apps.w]
profile = "plain"
{more}
[apps.w.databases]
main = "{url}"
"""
POSTGRESQL, MYSQL = "postgresql://nobody@127.0.0.1:5432/postgres", "mysql://root@127.0.0.1:3306/mysql"


def make_fifo(path):
    os.mkfifo(path)


def link_to_zero(path):
    path.symlink_to("/dev/zero")


def make_directory(path):
    path.mkdir()


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def make_large_file(path):
    path.write_bytes(b"NAME=x7\n" * (4 * MAX_CHARACTERS // 8 + 1))


SPECIAL = [make_fifo, link_to_zero, make_directory, make_socket, make_large_file]
#: Reference to the file: arguments, environment, further configuration, database URL.
REFERENCES = {
    "configuration": (["--config", "special"], {}, "", POSTGRESQL),
    "env_file": ([], {}, 'env_file = "special"', "${URL}"),
    "variable": ([], {"URL_FILE": "special"}, "", "${URL}"),
    "passfile": ([], {"PGPASSFILE": "special"}, "", POSTGRESQL),
    "servicefile": ([], {"PGSERVICEFILE": "special"}, "", POSTGRESQL),
    "certificate": ([], {}, "", f"{POSTGRESQL}?sslmode=verify-ca&sslrootcert=special"),
    "certificate of mysql": ([], {}, "", f"{MYSQL}?ssl-ca=special"),
    "options of mysql": ([], {}, "", "mysql://127.0.0.1:3306/mysql"),
    "keys of storage": (
        ["--repository", "s3://bucket/x"],
        {"AWS_SHARED_CREDENTIALS_FILE": "special", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        "",
        POSTGRESQL,
    ),
}
#: Files that a library reads, which does not open directories.
OPENED_BY_LIBRARIES = {"passfile", "servicefile", "certificate"}


@pytest.mark.parametrize(
    ("reference", "special"),
    [
        (reference, special)
        for reference in REFERENCES
        for special in SPECIAL
        if not (reference in OPENED_BY_LIBRARIES and special is make_directory)
    ],
)
def test_configured_special_file_is_refused(reference, special, start, tmp_path):
    words, environment, more, url = REFERENCES[reference]
    special(tmp_path / "special")
    if reference == "options of mysql":
        (tmp_path / ".my.cnf").symlink_to("special")
    (tmp_path / "dbctl.toml").write_text(CONFIG.format(more=more, url=url))
    command = ["backup", "list"] if "--repository" in words else ["data", "query", "select 1"]
    all_variables = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **environment}
    process = start(*command, *words, "-o", "json", environment=all_variables, cwd=tmp_path)
    error = json.loads(process.stdout)["error"]
    assert error["code"] in ("config-invalid", "file-failed", "storage-setting-invalid", "url-invalid"), error
    assert process.returncode in (1, 2)
    assert any(name in error["message"] for name in ("special", ".my.cnf", "URL_FILE")), error


@pytest.mark.parametrize("special", SPECIAL)
def test_password_file_must_be_regular(special, start, tmp_path):
    special(tmp_path / "special")
    copy_configured_deployment(tmp_path / "app")
    words = ("users", "set-password", "admin", "--password-file", tmp_path / "special")
    process = start(*words, "-o", "json", environment={}, cwd=tmp_path / "app")
    if special is make_large_file:  # its first line is a password
        assert process.returncode == 0
    else:
        assert json.loads(process.stdout)["error"]["code"] == "file-failed"
