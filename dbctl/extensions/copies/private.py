"""The private databases of a copy: loaded from a backup, rewritten, and dumped again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from msgspec import structs

from dbctl import progress
from dbctl.config.sections import Selection
from dbctl.engines import registry
from dbctl.engines.contract.database import Writable, require_supported
from dbctl.engines.contract.dumps import LoadRequest
from dbctl.extensions.copies.contract import Rewriter
from dbctl.services.app.app import App
from dbctl.services.app.session import Session
from dbctl.services.backup.create import create_backup
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.member_files import BackupWriter, needs_decoding
from dbctl.services.backup.sources import Source
from dbctl.services.restore.drill_run import create_temporary_url
from dbctl.services.restore.source import BackupSource, PrivateRepository
from dbctl.url import Url

#: Copies of each database that exist at the same time: decoded, loaded, and dumped again.
COPIES = 3
#: Properties of a database that a private one lacks.
PROPERTIES = ("journal_mode", "mode", "owner", "tablespace")


class PrivateDatabases:
    """The databases of a backup, loaded as a drill does: their originals never reach the destination."""

    def __init__(self, source: BackupSource, members: Sequence[Member], stack: ExitStack) -> None:
        """Load the databases; they are dropped when ``stack`` is closed, or by the next drill or copy after a crash.

        Raises:
            NotSupportedError, PrivilegeMissingError: the server cannot create a temporary database.
            BackupCorruptError, CorruptError, RestoreFailedError: the backup is damaged.
        """
        self._app, self.members = source.app, members
        store = source.repository.store
        is_encrypted = any(member.encryption != "none" for member in members)
        create_folder = source.keys.staging.folder if is_encrypted else store.temp_dir
        self.folder = stack.enter_context(create_folder(COPIES * sum(member.size for member in members)))
        reader = stack.enter_context(source.open_reader())
        self.urls = dict[str, Url]()
        for member in progress.list_parts(members, "database"):
            target = self._app.target(member.database)
            request = LoadRequest(
                path=reader.decode(source.manifest, member, target),
                dump=member.dump,
                timeout=self._app.timeout,
                can_consume=needs_decoding(member),
                roles=source.read_role_policy(member, reader),
            )
            url = create_temporary_url(self._app, member, self.folder)
            engine = registry.load_engine(member.engine)
            self.urls[member.database] = stack.enter_context(engine.trial_restore(url, request, target)).url

    @contextmanager
    def open_app(self) -> Iterator[App]:
        """Yield the app with these databases."""
        configured = structs.replace(
            self._app.configured,
            databases=self.urls,
            replicas={},
            reads_replicas=False,
            protected=False,
            backup=None,
        )
        # The backup may be from before a migration: its main database selects the variant of the profile.
        profile = self._app.base_profile if self._app.main_database in self.urls else self._app.profile
        session = Session(Selection(configured=configured), timeout=self._app.timeout, spec=self._app.spec)
        with closing(App(session, configured, profile)) as app:
            app.resolve_profile()
            yield app

    @contextmanager
    def open_writer(self, database: str) -> Iterator[tuple[Writable, Rewriter]]:
        """Yield a database, which nothing else may have open, and its part that rewrites it."""
        url = self.urls[database]
        engine, target = registry.load_engine(url.engine), self._app.target(database)
        with closing(engine.open_for_writing(url, target, timeout=self._app.timeout)) as writer:
            yield writer, require_rewriter(writer, engine.title)

    def dump(self, folder: Path) -> tuple[PrivateRepository, Manifest]:
        """Dump the databases without compression, as a backup in a repository in ``folder``."""
        repository = PrivateRepository(self._app, str(folder))
        lock = repository.store.lock(self._app.spec.name, timeout=self._app.timeout)  # creates its folder
        with self.open_app() as app, lock:
            return repository, create_backup(
                repository, [_PrivateSource(app, member) for member in self.members]
            )


def require_rewriter(writer: Writable, engine: str) -> Rewriter:
    """Return the part that rewrites a database.

    Raises:
        NotSupportedError: the engine has none.
    """
    return require_supported(
        writer,
        writer.extension_part(Rewriter),
        "an anonymised copy",
        f"Nothing was copied. {engine} is not supported: select the other databases with --to NAME=ADDRESS.",
    )


class _PrivateSource(Source):
    """A private database, whose dump has the properties of the original."""

    def __init__(self, app: App, member: Member) -> None:
        super().__init__(app, member.database, form="plain", compress="none")
        self._original: Mapping[str, str] = member.facts

    def write_members(self, folder: BackupWriter) -> list[Member]:
        properties = {name: self._original[name] for name in PROPERTIES if name in self._original}
        members = super().write_members(folder)
        return [structs.replace(member, facts={**member.facts, **properties}) for member in members]
