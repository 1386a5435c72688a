"""Verification of a canary: the ledger agrees with the migrations, and the databases are intact."""

from __future__ import annotations

from pathlib import Path

from dbctl.config import App, Selection
from dbctl.errors import CanaryFailedError
from dbctl.services import app as app_service
from dbctl.services import checks
from dbctl.services.migrations import find_targets
from dbctl.services.migrations.ledger import read_state


def verify_instance(configured: App, *, migrations: Path | None, timeout: float) -> None:
    """Verify the databases of an instance after its migrations; ``migrations`` is a folder instead of the configured one.

    Raises:
        CanaryFailedError: a check found an error.
        DbctlError: a database cannot be opened.
    """
    with app_service.open_app(Selection(configured=configured), timeout=timeout) as app:
        for target in find_targets(app, "", migrations):
            if read_state(target, app.reader(target.database)).schema == "inconsistent":
                reason = f"the ledger of {target.name} does not agree with the migrations"
                raise CanaryFailedError(app=app.name, reason=reason)
        for finding in checks.check(app, quick=True).findings.findings:
            if finding.severity == "error":
                raise CanaryFailedError(app=app.name, reason=f"{finding.code}: {finding.message}")
