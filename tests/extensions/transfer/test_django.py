"""A project of Django moves from SQLite to PostgreSQL, and its own commands work afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dbctl.url import parse_url
from tests.extensions.transfer.test_counters import run_sql

#: Settings that take the address of the database from the environment.
SETTINGS = """
import json, os
DATABASES = {"default": json.loads(os.environ["TEST_DATABASE"])}
ALLOWED_HOSTS = ["testserver"]
"""
LOGIN = """
from django.contrib.auth.models import User
from django.test import Client
for name in ("first", "second"):
    client = Client()
    assert client.login(username=name, password="A-long-word-9"), name
    assert client.get("/admin/").status_code == 200
print(sorted(User.objects.values_list("id", "username")))
"""


def run_django(folder: Path, database: str, *words: str, **environment: str) -> str:
    """Run ``manage.py``; return its output."""
    result = subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=folder,
        env={**os.environ, "TEST_DATABASE": database, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def create_user(folder: Path, database: str, name: str) -> None:
    run_django(
        folder,
        database,
        *("createsuperuser", "--noinput", "--username", name, "--email", f"{name}@example.org"),
        DJANGO_SUPERUSER_PASSWORD="A-long-word-9",
    )


@pytest.mark.slow
@pytest.mark.parametrize("schema", ["derived", "destination"])
def test_django_continues(answer, databases, tmp_path, schema):
    """The tables are derived from those of SQLite, or ``migrate`` has created them on PostgreSQL."""
    pytest.importorskip("django")
    subprocess.run([sys.executable, "-m", "django", "startproject", "site1", str(tmp_path)], check=True)
    with (tmp_path / "site1" / "settings.py").open("a") as settings:
        settings.write(SETTINGS)
    file = tmp_path / "db.sqlite3"
    old = f'{{"ENGINE": "django.db.backends.sqlite3", "NAME": "{file}"}}'
    run_django(tmp_path, old, "migrate")
    create_user(tmp_path, old, "first")
    destination = databases("postgresql", tmp_path)
    url = parse_url(destination)
    (host,) = run_sql(destination, "select current_schema()")
    options = f"-c search_path={host[0]}"
    main = ("--url", f"main={file}", "--profile", "plain", "transfer")
    new = (
        f'{{"ENGINE": "django.db.backends.postgresql", "NAME": "{url.path}", "USER": "{url.user}", "HOST": "{url.host}",'
        f' "PORT": "{url.port or ""}", "OPTIONS": {{"options": "{options}"}}}}'
    )
    if schema == "destination":
        run_django(tmp_path, new, "migrate")
    assert answer(*main, "run", "--to", destination)["data"]["schema"] == schema
    assert answer(*main, "verify", "--to", destination)["data"]["equal"] is True
    answer(*main, "switch", "--to", destination, "--yes")
    assert "No migrations to apply" in run_django(tmp_path, new, "migrate")
    create_user(tmp_path, new, "second")
    assert run_django(tmp_path, new, "shell", "-c", LOGIN).splitlines()[-1] == "[(1, 'first'), (2, 'second')]"
