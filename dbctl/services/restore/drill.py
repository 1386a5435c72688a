"""``backup drill``: select the newest backups of one or several apps, and run their drills."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dbctl.errors import BackupMissingError, DbctlError, NotSupportedError
from dbctl.model import Finding, Plan, format_count
from dbctl.services.app import App
from dbctl.services.backup import LATEST, DecryptionKeys, Manifest, Member, Repository, partial_backup_error
from dbctl.services.integrity import check
from dbctl.services.restore.drill_run import DrillResult, DrillRun, create_temporary_url
from dbctl.url import Url

Advance = Callable[[int], None]


class AppDrill:
    """The drill of one app; its live databases are neither changed nor read."""

    def __init__(self, app: App, repository: Repository, keys: DecryptionKeys, name: str = LATEST) -> None:
        """Select the members: those of one backup, or the newest of each database.

        Raises:
            BackupMissingError: there is no backup, or it does not contain that database.
            BackupCorruptError: its manifest cannot be read.
            BackupPartialError, NotSupportedError: it contains no database that can be restored.
            KeyMissingError: a backup is encrypted, and no identity is available; and as ``DecryptionKeys.prepare``.
        """
        self.app, self._open_app, self._repository = app.name, app, repository
        self._selected = (
            _select_newest(app, repository) if name == LATEST else _select_backup(app, repository, name)
        )
        self._keys = keys
        for manifest in {manifest.id: manifest for manifest, _ in self._selected}.values():
            keys.prepare(repository.store, manifest)

    def size(self) -> int:
        """Return the approximate number of bytes to read: each file twice."""
        return sum(2 * member.bytes for _, member in self._selected)

    def describe_steps(self) -> list[str]:
        """Return one step per database: what is restored where."""
        steps = []
        for manifest, member in self._selected:
            count = f"{format_count(sum(member.rows.values()), 'row')} of {format_count(len(member.rows), 'table')}"
            url = create_temporary_url(self._open_app, member, Path())
            if url is None:
                into = "nothing: no server for it is configured"
            else:
                kind = "a temporary file" if url.is_file else "a temporary folder"
                into = kind if url.is_local else f"a new database on the server of {url}"
            target = self._open_app.target(member.database)
            steps.append(f"restore {target} of {manifest.id} ({member.size:,} bytes, {count}) into {into}")
        return steps

    def drill(self, advance: Advance) -> DrillResult:
        """Restore and verify the members, and record the result.

        Args:
            advance: receives the number of bytes read since the last call.

        Raises:
            BackupMissingError: a backup was pruned since the plan.
            NotSupportedError: no server for it is configured.
            KeyWrongError: a backup is encrypted for other identities than the available ones.
            PrivilegeMissingError, InsufficientSpaceError, UnreachableError, ClientMissingError: not an error of the backup.
        """
        store = self._repository.store
        files = [member for _, member in self._selected if Url(engine=member.engine, path="").is_local]
        with ExitStack() as stack:
            is_encrypted = any(member.encryption != "none" for _, member in self._selected)
            temp_folder = self._keys.staging.folder if is_encrypted else store.temp_dir
            folder = stack.enter_context(temp_folder(sum(member.size for member in files)))
            run = DrillRun(self._open_app, self._repository, self._keys, stack, folder)
            for manifest, member in self._selected:
                run.restore(manifest, member, advance)
            run.check()
            return run.create_result()


class RunDrills:
    """Run the drills of several apps, one after the other."""

    protected = False  #: the drill does not change an app

    def __init__(
        self,
        apps: Sequence[App],
        keys: Callable[[App], DecryptionKeys],
        *,
        repository: str = "",
        name: str = LATEST,
    ) -> None:
        """Select the members of each app.

        Args:
            apps: the apps; of several apps, those without a repository are skipped.
            keys: returns the keys for the encrypted backups of an app.
            repository: the address of the backups, instead of the configured one.
            name: the backup: an id or ``latest``.

        Raises:
            DbctlError: as ``AppDrill``, if there is only one app; otherwise the other apps continue.
        """
        self._is_single, self._drills, self._failed = len(apps) == 1, list[AppDrill](), list[Finding]()
        self.target = self.app = ", ".join(app.name for app in apps)
        for app in apps:
            if self._is_single or repository or app.configured.backup:
                with self._collect_failure(app.name):
                    self._drills.append(AppDrill(app, Repository(app, repository), keys(app), name))
        self.advance: Advance = lambda _bytes: None  #: receives the number of bytes read since the last call

    def size(self) -> int:
        """Return the approximate number of bytes to read."""
        return sum(drill.size() for drill in self._drills)

    def plan(self) -> Plan:
        """Return the databases to restore; writes nothing."""
        steps = [step for drill in self._drills for step in drill.describe_steps()]
        if steps:
            steps.append("check the restored databases; compare rows, schema and content with the manifest")
            steps.append("record the results and durations next to the backups")
        steps += [f"skip {finding.target}: {finding.message}" for finding in self._failed]
        return Plan(
            title="Drill: restore into a temporary location", target=self.target, steps=steps, rows={}
        )

    def apply(self, confirmed: str | None = None) -> DrillResult:
        """Run the drills; with only one app, raises the errors of ``AppDrill.drill``."""
        del confirmed  # no confirmation: nothing is destroyed
        results = list[DrillResult]()
        for drill in self._drills:
            with self._collect_failure(drill.app):
                results.append(drill.drill(self.advance))
        return DrillResult(
            databases=[item for drill in results for item in drill.databases],
            findings=[item for drill in results for item in drill.findings],
            failed=self._failed,
            unrecorded=[item for result in results for item in result.unrecorded],
        )

    @contextmanager
    def _collect_failure(self, app: str) -> Iterator[None]:
        """Collect an error of one of several apps for the result."""
        try:
            yield
        except DbctlError as error:
            if self._is_single:
                raise
            self._failed.append(check.create_failure_finding(app, error))


def _select_newest(app: App, repository: Repository) -> list[tuple[Manifest, Member]]:
    """Return the newest member of each database; ``backup status`` reports databases without a backup."""
    manifests, _ = repository.manifests()
    newest = dict[str, tuple[Manifest, Member]]()
    for manifest in manifests:
        for name in manifest.databases if manifest.kind == "backup" else ():
            if (member := manifest.restorable_member(name)) and app.only in ("", name):
                newest.setdefault(name, (manifest, member))
    if not newest:
        repository.find(LATEST)  # raises BackupMissingError
    return list(newest.values())


def _select_backup(app: App, repository: Repository, name: str) -> list[tuple[Manifest, Member]]:
    manifest = repository.find(name)
    if manifest.kind == "partial":
        raise partial_backup_error(repository, manifest)
    databases = [name for name in manifest.databases if app.only in ("", name)]
    if not databases:
        address = repository.store.location
        raise BackupMissingError(name=manifest.id, app=f"{app.name}/{app.only}", place=address, suggestion="")
    members = [
        member for member in manifest.members if member.form == "dump" and member.database in databases
    ]
    if not members:
        raise NotSupportedError(
            feature=f"a drill with {manifest.id}",
            subject="its contents: retained databases, or files that are not a valid database",
            hint=f"Its files are in {repository.path(manifest)}.",
        )
    return [(manifest, member) for member in members]
