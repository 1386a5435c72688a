"""The Prisma client of PromptVault and the Sequelize models of WaQtor run on an anonymised copy, and a pseudonymous user signs in."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests import external_tools, servers
from tests.databases import File, PostgreSQL
from tests.shapes import promptvault, waqtor

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parent
EMAIL, PASSWORD = "dora@mill.example", "Dora-pass-1"


def require(folder: Path | None, place: Path) -> None:
    """Let node find the packages of a folder in another one."""
    if folder is None:
        servers.skip_or_fail("npm cannot install the packages of the app")
    (place / "node_modules").symlink_to(folder / "node_modules")


def run(script: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run(["node", script, *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def place_script(name: str, place: Path) -> Path:
    """Copy a script to the folder in which node finds its packages."""
    script = place / name
    script.write_text((FOLDER / name).read_text())
    return script


@pytest.fixture
def copied(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that copies an app, asserts that no check finds more, and returns the known password."""

    def copy(profile: str, source: str, destination: str) -> str:
        live, staging = (["--profile", profile, "--url", f"main={url}"] for url in (source, destination))
        result = answer(*live, "copy", "--from", "live", "--to", f"main={destination}", "--anonymise", "--replace", "--yes")["data"]  # fmt: skip
        for check in ("integrity", "apps"):
            before, after = (answer(*app, check, "check", status=None)["data"]["findings"] for app in (live, staging))  # fmt: skip
            assert {item["code"] for item in after} <= {item["code"] for item in before}
        return str(result["password"])

    return copy


def test_prisma_client_of_promptvault(copied: Callable[..., Any], tmp_path: Path) -> None:
    packages = external_tools.prisma()
    require(packages, tmp_path)
    script = place_script("promptvault.cjs", tmp_path)
    schema = place_script("promptvault.prisma", tmp_path)
    # the client needs no engine, but its generator demands one, which is in no registry
    environment = {**os.environ, "PRISMA_SCHEMA_ENGINE_BINARY": "/bin/true", "CHECKPOINT_DISABLE": "1"}
    command = ["node", "node_modules/prisma/build/index.js", "generate", "--schema", schema]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    live, copy = File(promptvault.deployed(tmp_path / "live.db")), File(tmp_path / "copy.db")
    run(script, live.url, "register", EMAIL, PASSWORD)
    before = run(script, live.url, "sign-in", EMAIL, PASSWORD)
    assert before["accepted"]
    password = copied("promptvault", live.url, copy.url)
    assert not run(script, copy.url, "sign-in", EMAIL, PASSWORD)["accepted"]
    ((user,),) = live.rows(f"select id from User where email = '{EMAIL}'")
    ((email,),) = copy.rows(f"select email from User where id = '{user}'")
    after = run(script, copy.url, "sign-in", str(email), password)
    assert after["accepted"]
    assert after["users"] == before["users"]
    assert after["settings"] == before["settings"]
    assert after["team"]["name"] != before["team"]["name"]
    assert [prompt["id"] for prompt in after["feed"]] == [prompt["id"] for prompt in before["feed"]]
    ((old,), (new,)) = before["prompts"], after["prompts"]
    assert [new[key] for key in ("id", "visibility", "createdAt")] == [old[key] for key in ("id", "visibility", "createdAt")]  # fmt: skip
    assert new["versions"][0]["title"] == new["title"] != old["title"]
    assert new["tags"][0]["tag"]["name"] != "flour"
    assert copy.rows("select * from _prisma_migrations") == live.rows("select * from _prisma_migrations")
    assert copy.rows("select count(*) from PromptSearch where PromptSearch match 'text'") == [(4,)]


def test_sequelize_models_of_waqtor(copied: Callable[..., Any], tmp_path: Path) -> None:
    packages = external_tools.sequelize()
    require(packages, tmp_path)
    script = place_script("waqtor.cjs", tmp_path)
    with servers.postgresql_database(encoding="UTF8") as first, servers.postgresql_database(encoding="UTF8") as second:  # fmt: skip
        with closing(servers.connection(first)) as connection:
            waqtor.deployed(connection)
        live, copy = PostgreSQL(first), PostgreSQL(second)
        addresses = [servers.text(url, schema=False) for url in (first, second)]
        run(script, addresses[0], "register", EMAIL, PASSWORD)
        before = run(script, addresses[0], "sign-in", EMAIL, PASSWORD)
        assert before["accepted"]
        password = copied("waqtor", live.url, copy.url)
        assert not run(script, addresses[1], "sign-in", EMAIL, PASSWORD)["accepted"]
        ((email,),) = copy.rows(f"select email from users where id = '{before['user']['id']}'")
        after = run(script, addresses[1], "sign-in", str(email), password)
    assert after["accepted"]
    assert after["users"] == before["users"]
    old, new = before["user"], after["user"]
    assert new["name"] != old["name"]
    assert new["tokens"] == []
    assert new["messages"][0]["to_phone"] == new["recipients"][0]["phone"] != old["recipients"][0]["phone"]
    assert new["messages"][0]["session_id"] == new["sessions"][0]["id"] == old["sessions"][0]["id"]
    assert new["sessions"][0]["session_data"] is None
