"""The built-in profile of Django is proven by forms of Django's own admin site, which are submitted while dbctl watches."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dbctl.profiles.loader import BUILTIN
from tests import servers
from tests.extensions.drafts.learning.built_in_proofs import check_proofs

SITE = Path(__file__).with_name("django_site.py")
ENGINES = ("sqlite", "postgresql")
#: The demonstrated actions: the action, the command of the site, its user, and options of ``profiles learn``.
ACTIONS = (
    ("create-user", "add", "ida", ()),
    ("set-password", "set-password", "bo", ()),
    ("set-role", "set-role", "cy", ("--role", "superuser")),
    ("deactivate", "deactivate", "di", ()),
    ("activate", "activate", "di", ()),
    ("delete-user", "delete", "ed", ()),
)


@pytest.fixture(params=ENGINES)
def address(request, tmp_path):
    if request.param == "sqlite":
        yield str(tmp_path / "db.sqlite3")
        return
    with servers.postgresql_database(encoding="UTF8") as url:
        yield servers.text(url, schema=False)


@pytest.mark.slow
def test_built_in_profile_of_django_is_proven(answer, tmp_path, address):
    site = [sys.executable, str(SITE), address]
    subprocess.run([*site, "install"], check=True)
    profile, unrelated = tmp_path / "django.toml", {}
    for action, command, login, options in ACTIONS:
        profile.write_text((BUILTIN / "django.toml").read_text())
        words = ("--url", address, "profiles", "learn", action, "--login", login, "--watch", "0", *options)
        after = shlex.join([*site, command, login])
        unrelated[action] = answer(*words, "--after", after, "--to", str(profile))["data"]["unrelated"]
    assert "django_session: it signs a user in" in unrelated["delete-user"]
    profile.write_text((BUILTIN / "django.toml").read_text())
    server = ("--url", str(servers.postgresql())) if address.startswith("postgresql:") else ()
    replays = answer(*server, "profiles", "prove", str(profile))["data"]["recordings"]
    assert [(replay["action"], replay["status"], replay["differences"]) for replay in replays] == [
        (action, "proven", []) for action, *_ in ACTIONS
    ]
    check_proofs(profile, "postgresql" if server else "sqlite")
