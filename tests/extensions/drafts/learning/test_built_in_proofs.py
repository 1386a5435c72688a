"""The proofs in the built-in profiles are those of their present text, and of all recordings."""

from __future__ import annotations

import gzip
import shutil
import sqlite3
from contextlib import closing

import pytest

from dbctl.files import toml
from dbctl.profiles import loader
from dbctl.profiles.loader import BUILTIN
from dbctl.services.app.proofs import compute_digest
from tests.extensions.drafts.learning import test_applications, test_django
from tests.extensions.drafts.learning.built_in_proofs import describe_renewal
from tests.extensions.drafts.learning.demonstrations import find_pair
from tests.in_process import ROOT

PROVEN = {name: profile.proven for name in loader.names() if (profile := loader.load(name)).proven}


def test_profiles_with_recordings_have_their_proofs():
    recorded = [*test_applications.PARAMETERS, *(("django", engine) for engine in test_django.ENGINES)]
    assert {(name, engine) for name, proven in PROVEN.items() for engine in proven} == {*recorded}


@pytest.mark.parametrize("name", PROVEN)
def test_proofs_are_of_the_present_text(name):
    text, profile = toml.read_text(BUILTIN / f"{name}.toml"), loader.load(name)
    for engine, proofs in profile.proven.items():
        assert engine in profile.databases[profile.main_database].engines
        for action, proof in proofs.items():
            assert proof.digest == compute_digest(text, action), describe_renewal(name)


def test_readme_names_proven_profiles():
    text = (ROOT / "README.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    titles = {
        name: next(row for row in rows if f"`{name}`" in row)[2:]
        .partition(" (")[0]
        .removesuffix(" applications")
        for name in PROVEN
    }
    paragraph = next(part for part in text.split("\n\n") if "are proven by" in part)
    assert [name for name, title in titles.items() if title not in paragraph] == []


def test_hint_about_a_built_in_profile_names_a_copy(tmp_path, answer):
    database, copy, config = tmp_path / "kuma.db", tmp_path / "uptime-kuma.toml", tmp_path / "dbctl.toml"
    with closing(sqlite3.connect(database)) as db:
        db.executescript(gzip.decompress(find_pair("uptime-kuma", 2).before[0].read_bytes()).decode())
        db.execute("delete from knex_migrations where id = (select max(id) from knex_migrations)")
        db.commit()

    def list_hints(profile: str) -> list[str]:
        keys = [f'profile = "{profile}"', 'require = "proven"', f'databases = "{database}"']
        config.write_text("\n".join(["[apps.kuma]", *keys]))
        checked = answer("apps", "check", "--config", str(config), status=None)["data"]["findings"]
        hints = {finding["code"]: finding["hint"] for finding in checked}
        refused = answer("users", "delete", "ada", "--config", str(config), status=6)["error"]
        assert refused["code"] == "command-unproven"
        return [hints["commands-inferred"], hints["proof-superseded"], refused["hint"]]

    for hint in list_hints("uptime-kuma"):
        assert f"Copy {BUILTIN / copy.name} to {copy.name}" in hint
        assert f"--to {copy.name}" in hint
    shutil.copy(BUILTIN / copy.name, copy)
    for hint in list_hints(copy.name):
        assert "Copy" not in hint
        assert f"--to {copy}" in hint
