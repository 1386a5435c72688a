"""Anonymised copies of sample apps pass the checks of dbctl, and a pseudonymous user signs in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.in_process import CLEAN_ENVIRONMENT, run_command


def run_json(folder: Path, *words: str, status: int = 0):
    done = run_command([*words, "-o", "json"], environment=CLEAN_ENVIRONMENT, cwd=folder)
    assert done.returncode == status, done.stdout[-3000:]
    return json.loads(done.stdout)["data"]


@pytest.mark.slow
@pytest.mark.needs_extension("demo")
@pytest.mark.parametrize(
    "profile",
    [
        "flashpoint-web",
        "promptvault",
        "yaai",
        pytest.param("chat-lancedb", marks=pytest.mark.needs_extension("lancedb")),
    ],
)
def test_copy_of_a_sample_passes_the_checks_of_its_app(profile, tmp_path):
    run_json(tmp_path, "demo", profile, "app")
    run_json(tmp_path / "app", "backup", "create")
    copied = run_json(tmp_path / "app", "copy", "--to", "../staging/", "--anonymise")
    assert [proof["hits"] for proof in copied["proofs"]] == [0] * len(copied["databases"])
    assert sum(proof["searched"] for proof in copied["proofs"]) > 500
    selection = ["--profile", profile]
    for database in copied["databases"]:
        selection += ["--url", f"{database['database']}={database['url']}"]
        path = database["url"].removeprefix("lancedb:")
        assert (Path(f"{path}.copy.json")).stat().st_mode & 0o777 == 0o600
    folder = tmp_path / "staging"
    for words in (["integrity", "check"], ["integrity", "cross-check"], ["apps", "check"]):
        findings = run_json(folder, *words, *selection)["findings"]
        assert [finding for finding in findings if finding["severity"] == "error"] == []
    if copied["password"]:
        users = run_json(folder, "users", "list", *selection)["items"]
        assert all("invalid" in (user["email"] or "invalid") for user in users)
        (folder / "password").write_text(copied["password"])
        (folder / "password").chmod(0o600)
        login = users[0].get("login") or users[0]["email"]
        checked = run_json(
            folder, "users", "check-password", login, "--password-file", "password", *selection
        )
        assert checked["matches"]
