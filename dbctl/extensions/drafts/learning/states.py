"""States of the databases of an app: files of backups, dumps and databases, loaded into temporary databases."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from msgspec import structs

from dbctl.config.model import PLAIN
from dbctl.config.model import App as ConfiguredApp
from dbctl.config.sections import Selection
from dbctl.engines import registry
from dbctl.engines.contract.database import Readable
from dbctl.engines.contract.dumps import LoadRequest
from dbctl.engines.file_type import detect_file_type
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import FileFailedError
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.extensions.drafts.learning.errors import StatesUnrelatedError
from dbctl.files import atomic, compression, temp
from dbctl.files.codecs import SUFFIXES
from dbctl.model import Struct
from dbctl.services.app.app import App
from dbctl.services.app.session import open_app
from dbctl.services.backup import verifier
from dbctl.services.backup.encryption import is_encrypted
from dbctl.services.backup.manifest import Manifest, Member, serialize
from dbctl.services.backup.member_files import MemberReader, open_reader
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


class State(Struct, frozen=True, kw_only=True):
    """The databases of an app at one moment, as private copies, which may be changed."""

    manifest: Manifest
    urls: Mapping[str, Url]
    databases: Mapping[str, Readable]
    members: Mapping[str, Path]  #: the decoded file of each database


@contextmanager
def open_state(paths: Sequence[Path], options: StateOptions) -> Iterator[State]:
    """Yield the state in files, of which each has at least one database: backup folders, dumps, or files of databases.

    Raises:
        UsageError: two files have the same database, or a dump of a server is passed without one.
        NotSupportedError: a backup is encrypted, or its engine has no rows that can be compared.
        Others, as ``stage_backup`` and ``RestoreTarget.trial_restore``.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(temp.folder(Path(tempfile.gettempdir()), PREFIX))
        app = stack.enter_context(_open_app(paths, options, folder))
        urls, databases, members = dict[str, Url](), dict[str, Readable](), dict[str, Path]()
        manifests = list[Manifest]()
        for path in paths:
            staged, repository = stack.enter_context(
                stage_backup(Repository(app, str(folder)), path, trial=False)
            )
            manifest = staged.manifest
            if is_encrypted(manifest):
                raise NotSupportedError(
                    feature="learning from an encrypted backup",
                    subject=str(path),
                    hint="Restore it with --to, and learn from the copy.",
                )
            reader = stack.enter_context(open_reader(repository.store, None))  # type: ignore[arg-type] # nothing is encrypted
            for member in manifest.members:
                if member.form != "dump" or not member.database:
                    continue
                if member.database in urls:
                    raise UsageError(detail=f"{path}: {member.database} is in several files")
                _load_member(stack, app, _Part(manifest, member, reader, folder), urls, databases, members)
            manifests.append(manifest)
        yield State(
            manifest=structs.replace(
                manifests[0], members=[member for manifest in manifests for member in manifest.members]
            ),
            urls=urls,
            databases=databases,
            members=members,
        )


class _Part(Struct, frozen=True):
    """One file of a state."""

    manifest: Manifest
    member: Member
    reader: MemberReader
    folder: Path


def _load_member(
    stack: ExitStack,
    app: App,
    part: _Part,
    urls: dict[str, Url],
    databases: dict[str, Readable],
    members: dict[str, Path],
) -> None:
    """Load one member into a temporary database, and open it."""
    name, target = part.member.database, app.target(part.member.database)
    file = part.reader.decode(part.manifest, part.member, target)
    url = verifier.trial_server(app, part.member) or app.url(name)
    if url.is_file:
        url = Url(engine=url.engine, path=str(part.folder / f"{name}.db"))
    engine = registry.load_engine(url.engine)
    request = LoadRequest(path=file, dump=part.member.dump, timeout=app.timeout, roles=verifier.WITHOUT_ROLES)
    trial = stack.enter_context(engine.restore_target(url, target).trial_restore(request))
    urls[name], members[name] = trial.url, file
    databases[name] = stack.enter_context(
        closing(engine.open_for_reading(trial.url, target, timeout=app.timeout))
    )


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
    configured = ConfiguredApp(
        name="learning",
        profile=profile,
        protected=False,
        databases={"main": url},
        migrations={},
        folder=folder,
        directory=folder,
    )
    with open_app(Selection(configured=configured), timeout=options.timeout) as app:
        yield app


def require_same_database(before: State, after: State) -> None:
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
    """Write a state as a backup folder that ``open_state`` reads; on failure, the folder is deleted.

    Raises:
        FileFailedError, DiskFullError: it cannot be written.
    """
    try:
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise FileFailedError(path=folder, reason=error.strerror or str(error)) from error
    try:
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
    except (DbctlError, OSError):
        shutil.rmtree(folder)
        raise


def _store_member(member: Member, file: Path, folder: Path) -> Member:
    """Return a member whose file is a compressed copy in the folder."""
    name = f"{member.database}{SUFFIXES['zstd']}"
    compressed = compression.compress_file(file, folder / name, "zstd")
    return structs.replace(
        member,
        file=name,
        bytes=compressed.stored.bytes,
        sha256=compressed.stored.sha256,
        compress="zstd",
        plain_bytes=compressed.plain_bytes,
    )
