"""A running app that tests let ``profiles learn`` watch."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

import pytest

from tests import servers
from tests.extensions.drafts.learning import small_app

SCRIPT = Path(small_app.__file__)


class RunningApp:
    """The small app with its database, and the profile that is learned."""

    def __init__(self, address, folder, answer) -> None:
        self.address, self.profile, self._answer = str(address), folder / "shop.toml", answer
        small_app.main(self.address, "install")

    def command(self, *words: str) -> str:
        """Return the command line that runs a command of the app."""
        return shlex.join([sys.executable, str(SCRIPT), self.address, *words])

    def run(self, *words: str) -> None:
        small_app.main(self.address, *words)

    def learn(self, action: str, *options: str, after: str, status: int = 0):
        words = ["--url", self.address, "profiles", "learn", action, "--to", str(self.profile)]
        return self._answer(*words, "--watch", "0", *options, "--after", after, status=status)

    def refuse(self, *commands: str, code: str, action: str = "set-password", login: str = "bob") -> dict:
        """Do the commands instead of the action, and return the error; assert its code, and that nothing was written."""
        after = " && ".join(commands) or "true"
        error = self.learn(action, "--login", login, after=after, status=4)["error"]
        assert error["code"] == code, error
        self.assert_untouched()
        return error

    def assert_untouched(self) -> None:
        """Assert that neither a profile, a recording nor a temporary folder exists."""
        assert not self.profile.exists()
        assert not self.profile.with_suffix(".recordings").exists()
        assert not [*Path(tempfile.gettempdir()).iterdir()]


@pytest.fixture
def private_temp(tmp_path, monkeypatch):
    """Create temporary folders in one of this test, which can be listed."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))


@pytest.fixture
def sqlite_app(tmp_path, answer, private_temp):
    return RunningApp(tmp_path / "app.db", tmp_path, answer)


@pytest.fixture
def postgresql_app(tmp_path, answer, private_temp):
    with servers.postgresql_database(encoding="UTF8") as url:
        yield RunningApp(servers.text(url, schema=False), tmp_path, answer)


@pytest.fixture(params=["sqlite", "postgresql"])
def running_app(request):
    return request.getfixturevalue(f"{request.param}_app")
