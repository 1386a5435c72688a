"""``backup drill --at``: recover a database as of a moment, drill the result, and record it next to the copy from which it began."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime

from msgspec import structs

from dbctl.engines.contract.dumps import RolePolicy
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import report_file_errors
from dbctl.extensions.recover.operation import RecoverBackup
from dbctl.files import temp
from dbctl.model import Plan
from dbctl.services.backup import verification_record
from dbctl.services.backup.app_files import BackupOperation
from dbctl.services.backup.create import create_backup
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.verification_record import Drill
from dbctl.services.restore.drill_run import AppDrill, DatabaseDrill, DrillResult

#: Of the private folders with a repository for the recovered backup.
PREFIX = ".dbctl-drill-"


class DrillMoment(BackupOperation):
    def __init__(
        self, repository: Repository, at: datetime, keys: DecryptionKeys, *, roles: RolePolicy
    ) -> None:
        """Select the database and the moment; raises as ``RecoverBackup``."""
        self._recovery = RecoverBackup(repository, at, keys)
        super().__init__(repository, self._recovery.database)
        self._keys, self._roles = keys, roles

    def size(self) -> int:
        return self._recovery.size()

    def plan(self) -> Plan:
        """Return the steps; writes nothing."""
        steps = [
            *self._recovery.list_steps(),
            "restore that backup into a temporary location; compare rows, schema and content with its manifest",
            "record the result next to the copy, and delete the backup",
        ]
        return self._create_plan(f"Drill: recover {self.target} into a temporary location", steps)

    def apply(self, confirmed: str | None = None) -> DrillResult:
        """Recover the moment into a temporary repository, and drill that; nothing of it remains.

        Raises:
            As ``Recovery.recover``, ``create_backup`` and ``AppDrill.drill``.
        """
        del confirmed  # nothing is deleted, so no confirmation is required
        staging = self._recovery.staging
        with ExitStack() as stack:
            with report_file_errors(staging):  # not of the rest of the block
                folder = stack.enter_context(temp.folder(staging, PREFIX))
            trial = Repository(self._app, str(folder))
            trial.encryption = None  # the files of the private server are plain, too
            with self._recovery.open_source() as source:
                created = create_backup(trial, [source], kind="recovered")
            result = AppDrill(trial, self._keys, created.id, self._roles).drill()
        backup = source.recovered.backup
        databases = [
            structs.replace(database, backup=backup, as_of=self._recovery.at) for database in result.databases
        ]
        unrecorded = [
            text for database in databases if backup and database.passed for text in self._record(database)
        ]
        return structs.replace(result, databases=databases, unrecorded=unrecorded)

    def _record(self, drill: DatabaseDrill) -> list[str]:
        """Record a drill next to the copy; return why that failed."""
        fields = {name: getattr(drill, name) for name in Drill.__struct_fields__}
        try:
            verification_record.update(
                self._repository.store,
                drill.backup,
                lambda previous: structs.replace(
                    previous, moments={**previous.moments, drill.database: Drill(**fields)}
                ),
            )
        except DbctlError as error:  # a read-only repository
            return [f"the drill of {self.target} cannot be recorded: {error}"]
        return []
