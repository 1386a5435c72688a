"""Deployments of Larder, one for every test, on each engine that its profile allows."""

from __future__ import annotations

import json
import shutil
import tarfile
from contextlib import chdir, contextmanager
from pathlib import Path

from msgspec import structs

from dbctl.cli.main import main
from dbctl.model import Secret
from dbctl.url import parse
from tests import servers
from tests.services import larder_app

#: Stands in the address of a server that asks for no password, and must not show anywhere.
SECRET = "hunter2-marked"
#: What was done before: a restore, and backups before and after it.
BEFORE = [
    "backup create",
    "restore apply latest --yes",
    "sessions cleanup",
    "backup create",
]
#: What else was done where it is told how all that stands.
DRILL = "backup drill"
#: The first words of commands that have to do with what was done before.
ABOUT_BEFORE = ("backup", "restore", "status", "doctor")


def lay_out(folder: Path, address: str) -> None:
    """Put the files of a deployment into a folder, which is the working directory."""
    (folder / "dbctl.toml").unlink()
    text = larder_app.PROFILE.read_text(encoding="utf-8").replace("cost = 10", "cost = 4")
    (folder / "larder.toml").write_text(text, encoding="utf-8")
    (folder / "people.csv").write_text("handle,email,password\nmia,mia@example.org,long enough\n")
    label = "b2c8d1ef-0000-4000-8000-000000000003,rice"
    (folder / "labels.csv").write_text(f"recipe_uuid,label\n{label}\n")
    with tarfile.open(folder / "labels.tar", "w") as archive:
        archive.add(folder / "labels.csv", "labels.csv")
    (folder / "wanted.json").write_text(json.dumps({"kitchen.title": "Shelf"}))
    assert main(["init", "larder.toml", ".", "--url", f"pantry={address}"]) == 0


def done_before() -> None:
    for line in BEFORE:
        assert main(line.split()) == 0
    # As if another machine had made it.
    oldest = min(one for one in Path("backups/larder").iterdir() if one.is_dir())
    oldest.rename("elsewhere")


class OnFiles:
    """Deployments are copies of a folder in which everything was done before."""

    engine = "sqlite"

    def __init__(self, place: Path) -> None:
        self._made = place / "made"
        with larder_app.settled("sqlite", self._made) as pantry, chdir(self._made):
            lay_out(self._made, pantry.url)
            done_before()
            assert main(DRILL.split()) == 0

    @contextmanager
    def deployed(self, folder: Path, _line: str):
        """Make one in a new folder, the working directory; give the words that say where its database is."""
        shutil.copytree(self._made, folder)
        with chdir(folder):
            yield "--url pantry=larder.db"


class OnServer:
    """Deployments are made on a server one by one; only what has to do with backups pays for those made before."""

    def __init__(self, engine: str) -> None:
        self.engine = engine

    @contextmanager
    def deployed(self, folder: Path, line: str):
        """As above."""
        about = line.startswith(ABOUT_BEFORE)
        place = "postgresql schema" if self.engine == "postgresql" and not about else self.engine
        with larder_app.settled(place, folder) as pantry, chdir(folder):
            url = parse(pantry.url)
            if self.engine == "postgresql" and not url.password:
                url = structs.replace(url, password=Secret(SECRET))
            address = servers.text(url)
            lay_out(folder, address)
            if about:
                done_before()
            if "status" in line and about:
                assert main(DRILL.split()) == 0
            yield f"--url pantry={address}"


def on(engine: str, place: Path) -> OnFiles | OnServer:
    """Return what makes deployments on an engine; ``place`` is a folder of its own."""
    return OnFiles(place) if engine == "sqlite" else OnServer(engine)
