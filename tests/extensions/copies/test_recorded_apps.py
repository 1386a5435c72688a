"""Anonymised copies of databases that applications wrote: their libraries accept the known password, and no check finds more than before."""

from __future__ import annotations

import gzip
import io
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from dbctl.engines.sql.catalog import ident
from dbctl.profiles import loader
from tests import servers
from tests.databases import ComparedDatabase, File, MySQL, PostgreSQL, empty_database
from tests.extensions.drafts.learning.demonstrations import list_pairs
from tests.extensions.drafts.learning.test_applications import PARAMETERS
from tests.extensions.drafts.learning.test_libraries import check_flask_security
from tests.profiles.apps import hashes

pytestmark = pytest.mark.slow
PASSWORD = "Staging-pass-1"
#: Tables of a site, which a built-in profile cannot name.
CONTENT = ("articles.title",)
#: Settings that an application creates if it has no row of them, and fails otherwise: without the key, and its pair.
OMITTED = {
    "ghost": ("settings", "ghost_private_key", "ghost_public_key"),
    "uptime-kuma": ("setting", "jwtSecret"),
}
#: Tables without whose rows pages of an application fail.
NEEDED = {"label-studio": ("authtoken_token",)}
#: The columns with passwords of applications with two kinds of accounts.
FURTHER_PASSWORDS = {"strapi": [("admin_users", "password")], "strapi-admin": [("up_users", "password")]}


def load(dump: Path, database: ComparedDatabase) -> None:
    """Load a recorded state into an empty database."""
    content = gzip.decompress(dump.read_bytes())
    if isinstance(database, File):
        with closing(sqlite3.connect(database.path)) as db:
            db.executescript(content.decode())
        return
    assert isinstance(database, PostgreSQL | MySQL)
    url = database.own
    if isinstance(database, PostgreSQL):
        words = [str(servers.client("psql")), "-Xqv", "ON_ERROR_STOP=1", servers.text(url, schema=False)]
    else:
        words = ["mariadb", f"-h{url.host}", f"-P{url.port}", f"-u{url.user}", url.path]
    subprocess.run(words, input=content, check=True, capture_output=True)


def configure(path: Path, profile: str, databases: Mapping[str, ComparedDatabase]) -> str:
    """Write a configuration, in which the app appends nothing to passwords, as Synapse after its installation."""
    path.with_name("pepper").touch()
    lines = [f'{name} = "{database.url}"' for name, database in databases.items()]
    head = f'[apps.app]\nprofile = "{profile}"\npepper_file = "pepper"\n[apps.app.databases]\n'
    path.write_text(head + "\n".join(lines))
    return str(path)


#: By application, its first engine; the copy of Directus, on PostgreSQL too, has documents, identifiers and times.
FIRST_ENGINES = dict(reversed(PARAMETERS))


@pytest.mark.parametrize(("name", "engine"), [*FIRST_ENGINES.items(), ("directus", "postgresql")])
def test_recorded_application(name: str, engine: str, answer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # fmt: skip
    profile, dumps = loader.load(name), list_pairs(name.removesuffix("-admin"), engine)[1].before
    places = list(profile.databases)[: len(dumps)]
    with ExitStack() as stack:
        live, copies = (
            {place: stack.enter_context(empty_database(engine, tmp_path / f"{kind}-{place}.db")) for place in places}
            for kind in ("live", "copy")
        )  # fmt: skip
        for dump, database in zip(dumps, live.values(), strict=True):
            load(dump, database)
        config, copied = (configure(tmp_path / f"{kind}.toml", name, databases) for kind, databases in (("live", live), ("copy", copies)))  # fmt: skip
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PASSWORD.encode())))
        words = [word for place in places for word in ("--to", f"{place}={copies[place].url}")]
        words += [word for column in CONTENT if name.startswith("strapi") for word in ("--keep", column)]
        result = answer("--config", config, "copy", "--from", "live", *words, "--anonymise", "--password-stdin", "--replace", "--yes")["data"]  # fmt: skip

        assert [proof["hits"] for proof in result["proofs"]] == [0] * len(places)
        for place in places:
            before, after = live[place].content(), copies[place].content()
            assert before.keys() == after.keys()
            unchanged = [table for table in before if result["tables"].get(f"{place}.{table}") == "copied"]
            assert [table for table in unchanged if before[table] != after[table]] == []
            assert all(len(after[table]) == len(before[table]) > 0 for table in NEEDED.get(name, ()))
        table, *keys = OMITTED.get(name, ("",))
        for key in keys:
            assert any(repr(key) in row for row in live["main"].content()[table])
            assert not any(repr(key) in row for row in copies["main"].content()[table])
        for check in ("integrity", "apps"):
            findings = [{(item["code"], item["message"]) for item in answer("--config", path, check, "check", status=None)["data"]["findings"]} for path in (config, copied)]  # fmt: skip
            assert findings[1] <= findings[0]
        users = profile.users
        assert users
        assert users.password
        (column,) = users.password.columns
        for table, passwords in ((users.table, column), *FURTHER_PASSWORDS.get(name, ())):
            stored = copies["main"].rows(f"select distinct {ident(passwords)} from {ident(table)}")
            (known,) = {str(row[0]) for row in stored} - {"None", *users.password.unusable}
            if name == "pgadmin4":  # its key of passwords is in the database
                assert engine != "sqlite" or check_flask_security(PASSWORD, known, tmp_path / "copy-main.db")
            else:
                assert hashes.accepts(PASSWORD, known)
