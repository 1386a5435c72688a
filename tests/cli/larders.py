"""Deployments of Larder, a new one for each test, on every engine that its profile supports."""

from __future__ import annotations

import json
import tarfile
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path

from msgspec import structs

from dbctl.cli.main import main
from dbctl.model import Secret
from dbctl.url import parse_url
from tests import examples, servers
from tests.services import larder_app

#: Password in the URL of a server that requires none; it must not be printed.
SECRET = "hunter2-marked"
#: Commands that run first: a restore, and a backup before and after it.
SETUP_COMMANDS = ["backup create", "restore apply latest --yes", "sessions cleanup", "backup create"]
#: Command that also runs first for status commands.
DRILL = "backup drill"
#: The exit code of commands that need a feature that the app lacks.
UNABLE = 2
EXAMPLES = examples.read_examples("custom")
#: The beginnings of examples that need a feature that the app lacks.
UNSUPPORTED = (
    *("demo", "integrity repair", "maintain cancel", "migrate", "notify test", "notify summary"),
    *("roles create", "roles update", "roles delete", "roles grant", "roles revoke"),
    *("roles matrix", "roles permissions", "roles can"),
    *("search semantic", "search vectors", "sessions list", "settings list --user"),
    *("stats connections", "stats locks --waiting", "stats slow"),
    *("users add-role", "users remove-role", "users list --locked", "users unlock"),
    "backup create --table",
)
#: Values of the placeholders of examples.
PLACEHOLDERS = {
    "app": "larder",
    "change": "kind=guest",
    "column": "handle",
    "db": "pantry",
    "dump": "elsewhere",
    "login": "ana",
    "migration": "1",
    "new": "zoe",
    "operation": "2",
    "profile": "larder.toml",
    "report": "recipes-per-cuisine",
    "role": "guest",
    "row": "a1b7c0de-0000-4000-8000-000000000002",
    "run": "1",
    "search": "recipes",
    "setting": "kitchen.title",
    "table": "members",
    "value": "Shelf",
    "word": "bread",
}
#: Commands that change neither databases nor backups; those on a server share a deployment.
READING_COMMANDS = (
    "apps",
    "users list",
    "users show",
    "users export",
    "roles list",
    "roles show",
    "settings list",
    "settings get",
    "settings validate",
    "settings export",
    "settings diff",
    "status",
    "doctor",
    "schedule",
    "metrics",
    "runs",
    "notify",
    "backup list",
    "backup show",
    "backup verify",
    "backup status",
    "restore preview",
    "integrity check",
    "integrity cross-check",
    "stats",
    "search {search}",
    "search all",
    "search index status",
    "search index check",
    "data rows",
    "data show",
    "schema",
    "data query",
    "data diff",
    "data export",
    "completions",
)
#: Commands that open no database.
OFFLINE_COMMANDS = (
    "apps list",
    "audit",
    "completions",
    "config",
    "demo",
    "help",
    "man",
    "profiles list",
    "runs",
    "schedule",
    "version",
)
#: Commands that write backups and other files, but no database.
BACKUP_WRITING_COMMANDS = ("backup", "restore files", "restore apply latest --to")
#: Commands that change databases and depend on their backups.
RESTORING_COMMANDS = ("restore apply", "restore undo")
#: Commands that depend on the backups and restores of the deployment.
BACKUP_COMMANDS = ("backup", "restore", "status", "doctor", "schema diff", "data diff")


def expected_status(line: str) -> int:
    """Return the exit code of an example on SQLite."""
    return UNABLE if line.startswith(UNSUPPORTED) else EXAMPLES[line].status


def list_needs(line: str) -> list[str]:
    """Return the lines that must run before an example."""
    return [needed for needed in EXAMPLES[line].needs if needed in EXAMPLES and not expected_status(needed)]


def split_line(line: str, urls: str) -> list[str]:
    """Return the arguments of an example, with the options for the database."""
    return examples.split_line(line, PLACEHOLDERS | {"urls": urls})


def write_files(folder: Path, address: str) -> None:
    """Write the files of a deployment to ``folder``, which must be the working directory."""
    (folder / "dbctl.toml").unlink()
    text = larder_app.PROFILE.read_text(encoding="utf-8").replace("$2b$10$", "$2b$04$")
    (folder / "larder.toml").write_text(text, encoding="utf-8")
    (folder / "users.csv").write_text("handle,email,password\nmia,mia@example.org,long enough\n")
    label = "b2c8d1ef-0000-4000-8000-000000000003,rice"
    (folder / "labels.csv").write_text(f"recipe_uuid,label\n{label}\n")
    with tarfile.open(folder / "files.tar", "w") as archive:
        archive.add(folder / "labels.csv", "labels.csv")
    (folder / "near.json").write_text("[1.0]")
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
    def deploy(self, folder: Path, _line: str, *, is_unable: bool = False):  # noqa: ARG002 - as OnServer
        """Create a deployment in a new folder, and make it the working directory; yield the options for its database."""
        examples.copy_deployment(self._template, folder)
        with chdir(folder):
            yield "--url pantry=larder.db"

    def close(self) -> None: ...


class OnServer:
    """Deployments on a server, created one by one; the setup commands run only if the tested command needs backups.

    Commands that change nothing share two deployments: one with backups, one without. Commands that write only files have a copy of
    the files of the one with backups, and share its database.
    """

    def __init__(self, engine: str, folder: Path) -> None:
        self.engine, self._folder = engine, folder
        self._shared: dict[bool, tuple[Path, str]] = {}
        self._open = ExitStack()

    @contextmanager
    def deploy(self, folder: Path, line: str, *, is_unable: bool = False):
        """Make a deployment the working directory, in a new folder if the command may change it; yield the options for its database.

        Args:
            folder: of a new deployment.
            line: the command.
            is_unable: whether the command is refused because the app lacks the feature.
        """
        needs_backups = line.startswith(BACKUP_COMMANDS)
        reads = is_unable or "--dry-run" in line or line.startswith(READING_COMMANDS)
        if not (reads or line.startswith(BACKUP_WRITING_COMMANDS)):
            with self._create(folder, needs_backups=needs_backups, has_drill=False) as options, chdir(folder):
                yield options
            return
        if needs_backups not in self._shared:
            place = self._folder / f"shared-{needs_backups}"
            create = self._create(place, needs_backups=needs_backups, has_drill=needs_backups)
            self._shared[needs_backups] = place, self._open.enter_context(create)
        place, options = self._shared[needs_backups]
        if not reads:
            examples.copy_deployment(place, folder)
        with chdir(place if reads else folder):
            yield options

    @contextmanager
    def _create(self, folder: Path, *, needs_backups: bool, has_drill: bool):
        place = "postgresql schema" if self.engine == "postgresql" and not needs_backups else self.engine
        with larder_app.open_pantry(place, folder) as pantry:
            url = parse_url(pantry.url)
            if self.engine == "postgresql" and not url.password:
                url = structs.replace(url, password=Secret(SECRET))
            address = servers.text(url)
            with chdir(folder):
                write_files(folder, address)
                if needs_backups:
                    run_setup_commands()
                if has_drill:
                    assert main(DRILL.split()) == 0
            yield f"--url pantry={address}"

    def close(self) -> None:
        self._open.close()


def create_deployments(engine: str, place: Path) -> OnFiles | OnServer:
    """Return the deployments of an engine; ``place`` is a temporary folder."""
    return OnFiles(place) if engine == "sqlite" else OnServer(engine, place)
