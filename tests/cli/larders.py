"""Deployments of Larder, a new one for each test, on every engine that its profile supports."""

from __future__ import annotations

import json
import shutil
import tarfile
from contextlib import chdir, contextmanager
from pathlib import Path

from msgspec import structs

from dbctl.cli.main import main
from dbctl.model import Secret
from dbctl.url import parse_url
from tests import servers
from tests.services import larder_app

#: Password in the URL of a server that requires none; it must not be printed.
SECRET = "hunter2-marked"
#: Commands that run first: a restore, and a backup before and after it.
SETUP_COMMANDS = [
    "backup create",
    "restore apply latest --yes",
    "sessions cleanup",
    "backup create",
]
#: Command that also runs first for status commands.
DRILL = "backup drill"
#: Commands that depend on the backups and restores of the deployment.
BACKUP_COMMANDS = ("backup", "restore", "status", "doctor")


def write_files(folder: Path, address: str) -> None:
    """Write the files of a deployment to ``folder``, which must be the working directory."""
    (folder / "dbctl.toml").unlink()
    text = larder_app.PROFILE.read_text(encoding="utf-8").replace("cost = 10", "cost = 4")
    (folder / "larder.toml").write_text(text, encoding="utf-8")
    (folder / "people.csv").write_text("handle,email,password\nmia,mia@example.org,long enough\n")
    label = "b2c8d1ef-0000-4000-8000-000000000003,rice"
    (folder / "labels.csv").write_text(f"recipe_uuid,label\n{label}\n")
    with tarfile.open(folder / "labels.tar", "w") as archive:
        archive.add(folder / "labels.csv", "labels.csv")
    (folder / "settings.json").write_text(json.dumps({"kitchen.title": "Shelf"}))
    assert main(["init", "larder.toml", ".", "--url", f"pantry={address}"]) == 0


def run_setup_commands() -> None:
    for line in SETUP_COMMANDS:
        assert main(line.split()) == 0
    # one backup appears to be from another machine
    oldest = min(item for item in Path("backups/larder").iterdir() if item.is_dir())
    oldest.rename("elsewhere")


class OnFiles:
    """Deployments that are copies of a template folder."""

    engine = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._template = folder / "made"
        with larder_app.open_pantry("sqlite", self._template) as pantry, chdir(self._template):
            write_files(self._template, pantry.url)
            run_setup_commands()
            assert main(DRILL.split()) == 0

    @contextmanager
    def deploy(self, folder: Path, _line: str):
        """Create a deployment in a new folder, and make it the working directory; yield the options for its database."""
        shutil.copytree(self._template, folder)
        with chdir(folder):
            yield "--url pantry=larder.db"


class OnServer:
    """Deployments on a server, created one by one; the setup commands run only if the tested command needs backups."""

    def __init__(self, engine: str) -> None:
        self.engine = engine

    @contextmanager
    def deploy(self, folder: Path, line: str):
        """Create a deployment in a new folder, and make it the working directory; yield the options for its database."""
        needs_backups = line.startswith(BACKUP_COMMANDS)
        place = "postgresql schema" if self.engine == "postgresql" and not needs_backups else self.engine
        with larder_app.open_pantry(place, folder) as pantry, chdir(folder):
            url = parse_url(pantry.url)
            if self.engine == "postgresql" and not url.password:
                url = structs.replace(url, password=Secret(SECRET))
            address = servers.text(url)
            write_files(folder, address)
            if needs_backups:
                run_setup_commands()
            if "status" in line and needs_backups:
                assert main(DRILL.split()) == 0
            yield f"--url pantry={address}"


def create_deployments(engine: str, place: Path) -> OnFiles | OnServer:
    """Return the deployments of an engine; ``place`` is a temporary folder."""
    return OnFiles(place) if engine == "sqlite" else OnServer(engine)
