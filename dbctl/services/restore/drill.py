"""``backup drill``: select the newest backups of one or several apps, and run their drills."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dbctl.engines.contract.dumps import RolePolicy
from dbctl.errors.base import DbctlError
from dbctl.model import Finding, Plan
from dbctl.services.app.app import App
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.repository import LATEST, Repository
from dbctl.services.restore.drill_run import AppDrill, DrillResult


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
        roles: RolePolicy = RolePolicy(),  # noqa: B008 - immutable
    ) -> None:
        """Select the members of each app.

        Args:
            apps: the apps; of several apps, those without a repository are skipped.
            keys: returns the keys for the encrypted backups of an app.
            repository: the address of the backups, instead of the configured one.
            name: the backup: an id or ``latest``.
            roles: what to do with roles that a server lacks.

        Raises:
            DbctlError: as ``AppDrill``, if there is only one app; otherwise the other apps continue.
        """
        self._is_single, self._drills, self._failed = len(apps) == 1, list[AppDrill](), list[Finding]()
        self.target = self.app = ", ".join(app.name for app in apps)
        for app in apps:
            if self._is_single or repository or app.configured.backup:
                with self._collect_failure(app.name, self._failed):
                    self._drills.append(AppDrill(Repository(app, repository), keys(app), name, roles))

    def size(self) -> int:
        """Return the approximate number of bytes to read."""
        return sum(drill.size() for drill in self._drills)

    def plan(self) -> Plan:
        """Return the databases to restore; writes nothing."""
        steps, failed = list[str](), [*self._failed]
        for drill in self._drills:
            with self._collect_failure(drill.name, failed):
                steps += drill.describe_steps()
        if steps:
            steps.append("check the restored databases; compare rows, schema and content with the manifest")
            steps.append("record the results and durations next to the backups")
        steps += [f"skip {finding.target}: {finding.message}" for finding in failed]
        return Plan(title="Drill: restore into a temporary location", target=self.target, steps=steps)

    def apply(self, confirmed: str | None = None) -> DrillResult:
        """Run the drills; with only one app, raises the errors of ``AppDrill.drill``."""
        del confirmed  # no confirmation: nothing is destroyed
        results, failed = list[DrillResult](), [*self._failed]
        for drill in self._drills:
            with self._collect_failure(drill.name, failed):
                results.append(drill.drill())
        return DrillResult(
            databases=[item for drill in results for item in drill.databases],
            findings=[item for drill in results for item in drill.findings],
            failed=failed,
            unrecorded=[item for result in results for item in result.unrecorded],
        )

    @contextmanager
    def _collect_failure(self, app: str, failed: list[Finding]) -> Iterator[None]:
        """Collect an error of one of several apps for the result."""
        try:
            yield
        except DbctlError as error:
            if self._is_single:
                raise
            failed.append(Finding.from_error(app, error))
