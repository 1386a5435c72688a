"""States of the databases of an app: files of backups, dumps and databases, loaded into temporary databases."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

from msgspec import structs

from dbctl.config.model import PLAIN
from dbctl.config.model import App as ConfiguredApp
from dbctl.config.sections import Selection
from dbctl.engines import registry
from dbctl.engines.contract.database import Readable
from dbctl.engines.contract.dumps import DumpRequest, LoadRequest
from dbctl.engines.file_type import detect_file_type
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.extensions.drafts.learning.errors import StatesUnrelatedError
from dbctl.extensions.drafts.learning.snapshots import ExportedSnapshot, SnapshotExport
from dbctl.files import atomic, compression, mounts, temp
from dbctl.files.codecs import SUFFIXES
from dbctl.model import Struct
from dbctl.services.app.app import App
from dbctl.services.app.session import open_app
from dbctl.services.backup import verifier
from dbctl.services.backup.create import create_snapshot
from dbctl.services.backup.databases import open_dumps, select_databases
from dbctl.services.backup.encryption import DecryptionKeys, is_encrypted
from dbctl.services.backup.manifest import Manifest, Member, serialize
from dbctl.services.backup.member_files import open_reader
from dbctl.services.backup.named_files import stage_backup
from dbctl.services.backup.repository import Repository
from dbctl.stores.base import MANIFEST
from dbctl.url import Url

PREFIX = "dbctl-learn-"
#: Of backup folders, whose databases are loaded at temporary places.
DEFAULT_ENGINE = "sqlite"


class StateOptions(Struct, frozen=True, kw_only=True):
    """How states are opened."""

    profile: Path | None = None  #: None: there is no profile yet, and each file is one database
    server: Url | None = None  #: where dumps of servers are loaded
    timeout: float
    #: whether the copies are only read: a file that needs no load is not copied again
    in_place: bool = False
    #: None: the files are recordings, which are not encrypted
    create_keys: Callable[[App], DecryptionKeys] | None = None


class OpenDatabases(Struct, frozen=True, kw_only=True):
    """The databases of an app, open for reading."""

    urls: Mapping[str, Url]
    databases: Mapping[str, Readable]


class State(OpenDatabases, frozen=True, kw_only=True):
    """The databases of an app at one moment, as private copies, which may be changed unless they are read in place."""

    manifest: Manifest
    members: Mapping[str, Path]  #: the file of each database, as the manifest describes its compression
    snapshots: Mapping[str, ExportedSnapshot] = {}  #: the databases that are read from their server

    def require_complete(self) -> None:
        """Check that what was read of snapshots is the whole state.

        Raises:
            StatesUnrelatedError: a table was replaced since the state was opened.
        """
        for name, snapshot in self.snapshots.items():
            if not snapshot.is_complete():
                raise StatesUnrelatedError(reason=f"a table of {name} was replaced during the comparison")


@contextmanager
def open_state(paths: Sequence[Path], options: StateOptions) -> Iterator[State]:
    """Yield the state in files, of which each has at least one database: backup folders, dumps, or files of databases.

    Raises:
        UsageError: two files have the same database, or a dump of a server is passed without one.
        KeyMissingError, KeyWrongError: a backup is encrypted, and the keys do not decrypt it.
        NotSupportedError: a recording is encrypted, or its engine has no rows that can be compared.
        Others, as ``stage_backup`` and ``RestoreTarget.trial_restore``.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(temp.folder(Path(tempfile.gettempdir()), PREFIX))
        app = stack.enter_context(_open_app(paths, options, folder))
        keys = options.create_keys(app) if options.create_keys else None
        loader = _Loader(app, folder, {}, {}, {}, keys, in_place=options.in_place)
        manifests = list[Manifest]()
        for path in paths:
            staged, repository = stack.enter_context(
                stage_backup(Repository(app, str(folder)), path, trial=False, keys=keys)
            )
            manifest = staged.manifest
            if keys is None and is_encrypted(manifest):
                raise NotSupportedError(
                    feature="replaying an encrypted recording",
                    subject=str(path),
                    hint="Delete its folder, and learn the action again.",
                )
            if twice := next((name for name in manifest.databases if name in loader.urls), ""):
                raise UsageError(detail=f"{path}: {twice} is in several files")
            loader.load(stack, manifest, repository)
            manifests.append(manifest)
        yield State(
            manifest=structs.replace(
                manifests[0],
                members=[
                    structs.replace(member, compress="none")
                    for manifest in manifests
                    for member in manifest.members
                ],
            ),
            urls=loader.urls,
            databases=loader.databases,
            members=loader.members,
        )


class _Loader(Struct, frozen=True):
    """What loads the members of backups, and collects the databases."""

    app: App
    folder: Path
    urls: dict[str, Url]
    databases: dict[str, Readable]
    members: dict[str, Path]
    keys: DecryptionKeys | None  #: None: nothing is encrypted
    in_place: bool

    def load(self, stack: ExitStack, manifest: Manifest, repository: Repository) -> None:
        """Load each database of a backup into a temporary one, and open it, until the stack is closed."""
        reader = stack.enter_context(open_reader(repository.store, self.keys))
        for member in manifest.members:
            if member.form == "dump" and member.database:
                file = reader.decode(manifest, member, self.app.target(member.database))
                self.load_member(stack, manifest, member, file)

    def load_member(self, stack: ExitStack, manifest: Manifest, member: Member, file: Path) -> None:
        """Load a database from its decoded file into a temporary one, and open it, until the stack is closed."""
        app, name, target = self.app, member.database, self.app.target(member.database)
        url = Url(engine=member.engine, path=str(self.folder / f"{name}.db"))
        if not url.is_file:
            url = verifier.trial_server(app, member) or app.url(name)
        if member.engine != url.engine:  # a recording, without the address of a server
            title = registry.load_engine(member.engine).title
            detail = f"{manifest.id} is a dump of {title}: pass --url ADDRESS of a server to load it"
            raise UsageError(detail=detail)
        engine = registry.load_engine(url.engine)
        request = LoadRequest(path=file, dump=member.dump, timeout=app.timeout, roles=verifier.WITHOUT_ROLES)
        restore_target = engine.restore_target(url, target)
        if self.in_place:
            url = stack.enter_context(restore_target.restored_copy(request))
        else:
            url = stack.enter_context(restore_target.trial_restore(request)).url
        self.open_member(stack, member, url, file)

    def open_member(self, stack: ExitStack, member: Member, url: Url, file: Path) -> None:
        """Open the database at ``url`` as the content of a file, until the stack is closed."""
        app, name = self.app, member.database
        self.urls[name], self.members[name] = url, file
        reader = registry.load_engine(url.engine).open_for_reading(url, app.target(name), timeout=app.timeout)
        self.databases[name] = stack.enter_context(closing(reader))


class RunningState:
    """The state of the databases of a running app at one moment: snapshots of servers, and copies."""

    def __init__(
        self, app: App, folder: Path, stack: ExitStack, snapshots: Mapping[str, ExportedSnapshot]
    ) -> None:
        """Copy each database into a folder, from its snapshot if it has one; raises as ``open_snapshot``."""
        self._folder, self._stack, self._snapshots = folder, stack, dict(snapshots)
        self._loader = _Loader(app, folder, {}, {}, {}, keys=None, in_place=True)
        names, _ = select_databases(app)
        urls = {name: snapshots[name].url if name in snapshots else app.url(name) for name in names}
        selection = Selection(configured=structs.replace(app.configured, databases=urls))
        with open_app(selection, timeout=app.timeout) as source:
            self._manifest = create_snapshot(source, names, folder)
        for member in self._manifest.members:
            if member.database in snapshots:
                self._loader.open_member(stack, member, urls[member.database], folder / member.file)
            else:
                self._load(member)

    def read(self) -> State:
        """Return the state; copies of snapshots that are not complete any more are loaded."""
        for member in self._manifest.members:
            name = member.database
            if name in self._snapshots and not self._snapshots[name].is_complete():
                del self._snapshots[name]
                self._load(member)
        loader = self._loader
        return State(
            manifest=self._manifest,
            urls=dict(loader.urls),
            databases=dict(loader.databases),
            members=loader.members,
            snapshots=dict(self._snapshots),
        )

    def _load(self, member: Member) -> None:
        stored, file = self._folder / member.file, self._folder / member.file
        target = self._loader.app.target(member.database)
        if member.compress != "none":
            file, size = self._folder / member.database, member.size
            mounts.require_space(self._folder, size)
            compression.decompress_file(stored, file, member.compress, expected_bytes=size, target=target)
        self._loader.load_member(self._stack, self._manifest, member, file)
        self._loader.members[member.database] = stored


@contextmanager
def open_snapshot(app: App, folder: Path) -> Iterator[RunningState]:
    """Yield the current state of each database of a running app, of which ``store_state`` can store the copies.

    Raises:
        InsufficientSpaceError: the folder has not enough free space.
        Others, as ``create_snapshot`` and ``RestoreTarget.restored_copy``; also raised when the state is read.
    """
    names, _ = select_databases(app)
    with ExitStack() as stack:
        exports = {name: app.reader(name).extension_part(SnapshotExport) for name in names}
        snapshots = {
            name: stack.enter_context(export.export_snapshot()) for name, export in exports.items() if export
        }
        app.close()
        yield RunningState(app, folder, stack, snapshots)


@contextmanager
def open_current(app: App, folder: Path, names: Collection[str]) -> Iterator[OpenDatabases]:
    """Yield databases of a running app as they are now: a copy of a file, so that its writers do not wait, and those of a server.

    Raises:
        InsufficientSpaceError: the folder has not enough free space.
    """
    with ExitStack() as stack:
        urls, databases = dict[str, Url](), dict[str, Readable]()
        for name in names:
            url = app.url(name)
            if not app.restore_target(name).requires_load:
                dumps, path = open_dumps(app, name), folder / f"{name}.db"
                mounts.require_space(folder, dumps.estimate_dump_size())
                stack.callback(path.unlink, missing_ok=True)
                dumps.dump(DumpRequest(path))
                url = Url(engine=url.engine, path=str(path))
            urls[name] = url
            databases[name] = stack.enter_context(
                closing(app.engine(name).open_for_reading(url, app.target(name), timeout=app.timeout))
            )
        app.close()
        yield OpenDatabases(urls=urls, databases=databases)


@contextmanager
def _open_app(paths: Sequence[Path], options: StateOptions, folder: Path) -> Iterator[App]:
    """Open an app with the profile, whose databases are at temporary places."""
    file_types = [detect_file_type(path) for path in paths if path.is_file()]
    engines = dict.fromkeys(file_type.engine for file_type in file_types if file_type.engine)
    engine = next(iter(engines), DEFAULT_ENGINE)
    url = options.server or Url(engine=engine, path=str(folder / "place.db"))
    if not url.is_file and not options.server:
        title = registry.load_engine(engine).title
        raise UsageError(detail=f"{paths[0]} is a dump of {title}: pass --url ADDRESS of a server to load it")
    profile = str(options.profile) if options.profile else PLAIN
    with open_databases({"main": url}, profile, folder, timeout=options.timeout) as app:
        yield app


def open_databases(
    urls: Mapping[str, Url], profile: str, folder: Path, *, timeout: float
) -> AbstractContextManager[App]:
    """Open the app with a profile whose databases are at these addresses; its files are in ``folder``."""
    configured = ConfiguredApp(
        name="learning",
        profile=profile,
        protected=False,
        databases=urls,
        migrations={},
        folder=folder,
        directory=folder,
    )
    return open_app(Selection(configured=configured), timeout=timeout)


def require_same_database(before: OpenDatabases, after: OpenDatabases) -> None:
    """Check that two states have the same databases, tables and columns.

    Raises:
        StatesUnrelatedError: they do not.
    """
    if before.databases.keys() != after.databases.keys():
        names = sorted(before.databases.keys() ^ after.databases.keys())
        raise StatesUnrelatedError(reason=f"only one of them has {', '.join(names)}")
    for name, db in before.databases.items():
        left, right = db.tables(), after.databases[name].tables()
        if missing := sorted(left.keys() ^ right.keys()):
            raise StatesUnrelatedError(reason=f"only one of them has the table {missing[0]}")
        for table, definition in left.items():
            if missing := sorted(definition.columns.keys() ^ right[table].columns.keys()):
                raise StatesUnrelatedError(reason=f"only one of them has the column {table}.{missing[0]}")


def store_state(state: State, folder: Path, *, profile: str) -> None:
    """Write a state into an empty folder as a backup that ``open_state`` reads; the caller deletes the folder after a failure.

    Raises:
        FileFailedError, DiskFullError: it cannot be written.
    """
    members = [
        _store_member(member, state.members[member.database], folder)
        for member in state.manifest.members
        if member.database in state.members
    ]
    manifest = structs.replace(
        state.manifest, id=folder.name, app=profile, profile=profile, members=members, left_out=()
    )
    with atomic.create_file(folder / MANIFEST) as file:
        file.write(serialize(manifest).encode())


def _store_member(member: Member, file: Path, folder: Path) -> Member:
    """Return a member whose file is a compressed copy in the folder."""
    name, is_plain = f"{member.database}{SUFFIXES['zstd']}", member.compress == "none"
    compressed = compression.compress_file(file, folder / name, "zstd" if is_plain else "none")
    return structs.replace(
        member,
        file=name,
        encryption="none",
        inner_bytes=0,
        inner_sha256="",
        bytes=compressed.stored.bytes,
        sha256=compressed.stored.sha256,
        compress="zstd",
        plain_bytes=compressed.plain_bytes if is_plain else member.plain_bytes,
    )
