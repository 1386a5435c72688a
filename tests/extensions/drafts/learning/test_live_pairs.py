"""A running app on PostgreSQL teaches the same rules as dumps of its states, all rows of which are compared."""

from __future__ import annotations

import gzip
import io
import json
import shlex
import subprocess
import sys
import tomllib

import pytest

from tests import servers
from tests.extensions.drafts.learning import apply_state
from tests.extensions.drafts.learning.test_pairs import PAIRS, is_wrong, name_pair

pytestmark = pytest.mark.slow

#: What a demonstration shows, besides the profile and the recording.
SHOWN = ("tables", "rows", "lines", "decisions", "unrelated", "learned_notes")


@pytest.fixture
def create_database():
    """Create a database with a state of an application, and return its address."""
    with (
        servers.postgresql_database(encoding="UTF8") as first,
        servers.postgresql_database(encoding="UTF8") as second,
    ):
        addresses = [servers.text(url, schema=False) for url in (second, first)]

        def run(state):
            address = addresses.pop()
            words = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", address]
            subprocess.run(words, input=gzip.decompress(state.read_bytes()), check=True, capture_output=True)
            return address

        yield run


def read_lesson(result, profile):
    (folder,) = profile.with_suffix(".recordings").iterdir()
    changes = json.loads((folder / "recording.json").read_text())["changes"]
    for change in changes:  # their order depends on the number of rows that are compared
        change["images"].sort(key=repr)
    return changes, {name: result["data"][name] for name in SHOWN}, tomllib.loads(profile.read_text())


#: One pair of each action: the actions of an application differ, the comparison of its rows does not.
TAUGHT = {pair.action: pair for pair in PAIRS if pair.engine == "postgresql" and not is_wrong(pair)}.values()


@pytest.mark.parametrize("pair", TAUGHT, ids=name_pair)
def test_running_app_teaches_the_same_rules(answer, learn, create_database, tmp_path, monkeypatch, pair):
    (tmp_path / "files").mkdir()
    profiles = tmp_path / "files" / "app.toml", tmp_path / "app.toml"
    expected = read_lesson(learn(pair.app, pair.number, profiles[0], engine="postgresql"), profiles[0])
    address, other = create_database(pair.before[0]), create_database(pair.after[0])
    action = shlex.join([sys.executable, apply_state.__file__, address, other])
    options = {"--before": address, "--after": action, "--url": address}
    words = [*pair.words, "--watch", "0", "--to", str(profiles[1])]
    words = [options.get(previous, word) for previous, word in zip(["", *words], words, strict=False)]
    index = words.index("--before")
    del words[index : index + 2]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((pair.password or "").encode())))
    assert read_lesson(answer(*words), profiles[1]) == expected
