"""``profiles learn``: what is learned from demonstrations by real applications."""

from __future__ import annotations

import pytest

from dbctl.files import toml
from tests.extensions.drafts.learning.demonstrations import APPS, list_pairs


def test_each_state_is_the_state_before_the_next_action():
    for app in APPS:
        for engine in ("sqlite", "postgresql"):
            pairs = list_pairs(app, engine)
            assert [pair.after for pair in pairs[:-1]] == [pair.before for pair in pairs[1:]]
            assert all(path.is_file() for pair in pairs for path in (*pair.before, *pair.after))


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_format_that_verifies_password_is_learned(learn, tmp_path, engine):
    profile = tmp_path / "mlflow.toml"
    learned = learn("mlflow", 4, profile, engine=engine)["data"]
    assert [line["key"] for line in learned["lines"]] == ["users.password"]
    assert toml.loads(profile.read_text())["users"]["password"] == {
        "column": "password_hash",
        "writes": "scrypt:32768:8:1$",
    }


def test_one_demonstration_is_not_counted_twice(learn, tmp_path):
    profile = tmp_path / "mlflow.toml"
    learn("mlflow", 4, profile)
    text = profile.read_text()
    assert learn("mlflow", 4, profile, status=4)["error"]["code"] == "demonstration-wrong"
    assert profile.read_text() == text
    assert len(list(profile.with_suffix(".recordings").iterdir())) == 1
