"""Create a sample deployment with its configuration: databases and files in a temporary folder, or in empty databases of ``--url``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from datetime import datetime
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from dbctl.config import loader
from dbctl.engines.contract.database import Writable, require_supported
from dbctl.engines.registry import load_engine
from dbctl.errors.connection import FileExistsAlreadyError, report_file_errors
from dbctl.errors.databases import DatabaseNotEmptyError
from dbctl.extensions.demo.definition import (
    Account,
    SampleDatabase,
    check_urls,
    check_variant,
    read_definition,
    resolve_counts,
)
from dbctl.extensions.demo.sample import RowWriter, Sample
from dbctl.model import Closing, Plan, Row, Struct, now
from dbctl.profiles.loader import load
from dbctl.profiles.model.profile import Profile
from dbctl.services.app import ledger_detection
from dbctl.services.migrations.database_plan import apply_all
from dbctl.services.migrations.ledger.state import read_state
from dbctl.services.migrations.status import create_shipped_target
from dbctl.services.search.indexes.text import build_index
from dbctl.services.setup.init import InitConfig, read_configuration
from dbctl.url import Url

#: The name of the app in messages.
TARGET = "demo"


class DemoBuilt(Struct, frozen=True, kw_only=True):
    """Result of ``demo``."""

    profile: str
    directory: Path
    databases: Mapping[str, Path]
    servers: Mapping[str, str] = {}  #: the addresses of databases on a server, without passwords
    rows: Mapping[str, int]  #: the numbers of created rows: games, users, plays…
    bytes: int  #: of all databases
    seconds: float
    accounts: Sequence[Account]
    password_of_others: str  #: the public password of all other users


def build_sample(
    directory: Path,
    *,
    profile: str = "flashpoint-web",
    counts: Mapping[str, int] = {},
    urls: Mapping[str, Url] = {},
    variant: str = "",
    seed: int = 0,
    at: datetime | None = None,
) -> DemoBuilt:
    """Create the sample deployment of ``profile`` in ``directory``, which is created if it is missing.

    Args:
        directory: where the app would be installed.
        profile: the profile.
        counts: the numbers of rows by kind: ``games``, ``users``, ``messages``…; named accounts are always created.
        urls: databases on servers, which are empty or contain only their migrations.
        variant: the variant of the schema, if the app has several; an existing schema keeps its variant.
        seed: determines the random data.
        at: the current time of the sample; now by default.

    Raises:
        NotSupportedError, UsageError: see ``resolve_counts`` and ``check_urls``.
        FeatureMissingError, MigrationVariantUnknownError: see ``check_variant``.
        MigrationVariantMismatchError: a database already has migrations of another variant.
        ValueInvalidError: a number is negative or too large.
        FileExistsAlreadyError, DatabaseNotEmptyError: a database already exists; nothing was changed.
        FileFailedError: the directory cannot be created or written.
    """
    all_counts = resolve_counts(profile, counts)
    check_urls(profile, urls)
    check_variant(profile, variant)
    definition = read_definition(profile)
    sample = Sample(
        definition, all_counts, seed=seed, at=at or now(), variant=variant or definition.schema_variant
    )
    return _Builder(profile, directory, sample, urls).build()


class _Builder:
    """Creates one sample; the module of the app has ``FILLS``, a function for each database."""

    def __init__(self, profile: str, directory: Path, sample: Sample, urls: Mapping[str, Url]) -> None:
        self._profile, self._directory, self._sample = load(profile), directory, sample
        self._urls = urls
        self._module = import_module(f"dbctl.extensions.demo.{profile.replace('-', '_')}")
        self._rows: dict[str, int] = {}
        self._bytes = 0

    def build(self) -> DemoBuilt:
        """Create the sample.

        Raises:
            FileExistsAlreadyError, DatabaseNotEmptyError: a database or file already exists; nothing was changed.
            FileFailedError: the directory cannot be created or written.
        """
        start, definition = time.monotonic(), self._sample.definition
        files = {name: db.path for name, db in definition.databases.items() if name not in self._urls}
        claims = definition.claims or tuple(files.values())
        self._require_absent(claims)
        targets = [self._directory / claim for claim in claims]
        parent = targets[-1].parent if targets else self._directory
        # Created in a temporary folder, so that no app opens an incomplete database.
        with (
            report_file_errors(self._directory),
            create_directories([self._directory, *(path.parent for path in targets)]),
            TemporaryDirectory(prefix=".dbctl-demo-", dir=parent) as folder,
        ):
            temporary = Path(folder)
            for name, database in definition.databases.items():
                self._fill(name, database, temporary)
            self._write_files(temporary)
            self._require_absent(claims)
            for claim, target in zip(claims, targets, strict=True):
                (temporary / claim).rename(target)
        paths = {name: self._directory / path for name, path in files.items()}
        url_files = {name: Path(url.path) for name, url in self._urls.items() if url.is_file}
        return DemoBuilt(
            profile=self._profile.name,
            directory=self._directory,
            databases=paths | url_files,
            servers={name: str(url) for name, url in self._urls.items() if not url.is_file},
            rows=self._rows,
            bytes=self._bytes,
            seconds=round(time.monotonic() - start, 3),
            accounts=definition.accounts,
            password_of_others=definition.password_of_others,
        )

    def _require_absent(self, claims: Iterable[str]) -> None:
        for claim in claims:
            if os.path.lexists(path := self._directory / claim):
                raise FileExistsAlreadyError(path=path, hint="Choose an empty directory for the sample.")

    def _fill(self, name: str, database: SampleDatabase, temporary: Path) -> None:
        """Create the schema of a database, and insert its rows."""
        is_new = name not in self._urls
        url = self._urls.get(name) or Url(engine=database.engine, path=str(temporary / database.path))
        target, engine = f"{TARGET}/{name}", load_engine(url.engine)
        if is_new:
            Path(url.path if database.tables else Path(url.path).parent).mkdir(parents=True, exist_ok=True)
        for table, columns in database.tables.get(self._sample.variant, {}).items():
            engine.create_table(url, target, table, columns, timeout=5)
        opened = engine.open_for_writing(
            url,
            target,
            timeout=5,
            # An interrupted sample is created again. Servers ignore pragmas.
            pragmas={"synchronous": "off"},
            create=database.create or self._profile.databases[name].create,
        )
        with closing(opened) as db, nullcontext() if is_new else db.lock("demo"):
            if not is_new:
                require_empty(db, self._profile, name)
            self._run_script(db, database.before)
            if migrations := self._profile.databases[name].migrations:
                variant = self._sample.variant if migrations.variant else ""
                shipped = create_shipped_target(self._profile, name, TARGET, url.engine, variant=variant)
                apply_all(read_state(shipped, db).target, db)
            writer = RowWriter(db, self._profile, self._sample)
            if name in self._module.FILLS:
                with db.transaction():
                    self._module.FILLS[name](self._sample, writer)
                    writer.flush()
            self._run_script(db, database.after)
            for search in self._profile.search if database.indexed else ():
                build_index(search, db)
            tables = db.tables()
            self._rows |= {
                kind: writer.counts.get(table, 0) for kind, table in database.rows.items() if table in tables
            }
            self._bytes += db.storage.measure_storage().bytes

    @staticmethod
    def _run_script(db: Writable, script: str) -> None:
        """Run the statements in one transaction."""
        if not script:
            return
        engine = require_supported(db, db.scripts, "the demo", "Its engine runs no scripts.")
        with engine.schema_transaction():
            for _line, sql in engine.script_dialect.split(script):
                engine.run_statement(sql)

    def _write_files(self, home: Path) -> None:
        """Write the files of the app that are not databases, and set the permissions of all files."""
        create_files = getattr(self._module, "create_files", None)
        for name, content in (create_files(self._sample) if create_files else {}).items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_bytes(content)
        for path in home.rglob("*"):
            if path.name.endswith(".dbctl-lock"):
                path.unlink()
            elif self._sample.definition.private:
                path.chmod(0o700 if path.is_dir() else 0o600)


@contextmanager
def create_directories(paths: Iterable[Path]) -> Iterator[None]:
    """Create missing directories; remove them again if the block fails."""
    new: list[Path] = []
    try:
        for path in paths:
            missing = [parent for parent in [path, *path.parents] if not os.path.lexists(parent)]
            path.mkdir(parents=True, exist_ok=True)
            new += reversed(missing)
        yield
    except BaseException:  # also after a signal: an incomplete sample is removed
        for path in reversed(new):
            with suppress(OSError):  # another process created files in it
                path.rmdir()
        raise


def require_empty(db: Writable, profile: Profile, database: str) -> None:
    """Refuse a database with rows; an interrupted sample leaves only migrations.

    Raises:
        DatabaseNotEmptyError: nothing was changed.
    """
    tables = list(db.tables())
    migrations = profile.databases[database].migrations
    ledger = ledger_detection.resolve_ledger(profile, migrations.ledger).table if migrations else ""
    full = [name for name in tables if name != ledger and db.count(name)]
    if full or (tables and ledger not in tables):
        raise DatabaseNotEmptyError(target=db.target, tables=", ".join((full or tables)[:5]))


class SampleBuilt(DemoBuilt, frozen=True, kw_only=True):
    """Result of ``demo``."""

    config: Path

    @property
    def closing(self) -> Closing:
        # the rows of each kind are in the summary; other tables, such as those of links, have more
        return Closing(f"Created a sample of {self.profile}", bytes=self.bytes, is_timed=True)

    def summary(self) -> Row:
        accounts = [
            {"login": account.login, "password": account.password, "role": account.role}
            for account in self.accounts
        ]
        return {"directory": self.directory, "config": self.config.name, **self.rows, "accounts": accounts}


class CreateSample:
    """A sample deployment to create."""

    protected, target = False, ""

    def __init__(
        self,
        profile: str,
        directory: Path,
        *,
        counts: Mapping[str, int],
        urls: Sequence[str],
        variant: str = "",
        seed: int,
    ) -> None:
        """Check the options.

        Raises:
            NotSupportedError, UsageError: see ``check_urls``.
            FeatureMissingError, MigrationVariantUnknownError: see ``check_variant``.
            AlreadyExistsError: the configuration in the directory already has an app with this name.
        """
        self.app = profile
        self._directory, self._seed = directory, seed
        self._counts, self._urls, self._variant = counts, urls, variant
        self._urls_by_name = loader.parse_urls(urls, Path.cwd())
        check_urls(profile, self._urls_by_name)
        check_variant(profile, variant)
        read_configuration(directory / loader.FILE_NAME, profile)

    def plan(self) -> Plan:
        variant = f", variant {self._variant}" if self._variant else ""
        steps = [
            f"create databases of {self.app} with generated rows in {self._directory}",
            *(f"fill the empty database {url} ({name}{variant})" for name, url in self._urls_by_name.items()),
            f"write {loader.FILE_NAME}",
        ]
        return Plan(
            title=f"Sample of {self.app}", target=str(self._directory), steps=steps, rows=self._counts
        )

    def apply(self, confirmed: str | None = None) -> SampleBuilt:
        """Create the sample.

        Raises:
            FileExistsAlreadyError: the directory already contains a file of the app.
            NotSupportedError: the profile has no sample.
        """
        del confirmed  # the directory is new, so a second plan is not needed
        built = build_sample(
            self._directory,
            profile=self.app,
            counts=self._counts,
            urls=self._urls_by_name,
            variant=self._variant,
            seed=self._seed,
        )
        file = self._directory / loader.FILE_NAME
        InitConfig(self.app, self._directory, app="", file=file, urls=self._urls, protected=False).apply()
        return SampleBuilt(
            **{name: getattr(built, name) for name in DemoBuilt.__struct_fields__}, config=file
        )
