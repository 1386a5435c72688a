"""Django's own admin site runs on an anonymised copy, and a pseudonymous admin signs in there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import servers
from tests.databases import empty_database
from tests.extensions.drafts.learning import django_site

SITE = Path(django_site.__file__)


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path):
    if request.param == "sqlite":
        yield str(tmp_path / "app/db.sqlite3")
        return
    with servers.postgresql_database(encoding="UTF8") as url:
        yield servers.text(url, schema=False)


@pytest.mark.slow
def test_pseudonymous_admin_signs_in_to_the_copy(run, tmp_path, address):
    (tmp_path / "app").mkdir()
    subprocess.run([sys.executable, SITE, address, "install"], check=True)
    (tmp_path / "app/dbctl.toml").write_text(
        f'[apps.site]\nprofile = "django"\n[apps.site.databases]\nmain = "{address}"\n'
    )
    engine = "postgresql" if address.startswith("postgresql:") else "sqlite"
    with empty_database(engine, tmp_path / "copy.sqlite3") as destination:
        copied = run("copy", "--from", "live", "--to", destination.url, "--anonymise")["data"]
        users = run("--profile", "django", "--url", f"main={destination.url}", "users", "list")["data"][
            "items"
        ]
        login = next(user["username"] for user in users if user["id"] == 1)
        assert login != "root"
        environment = {**os.environ, "DBCTL_PASSWORD": copied["password"]}
        subprocess.run([sys.executable, SITE, destination.url, "sign-in", login], check=True, env=environment)
