"""Verification of a canary: the ledger agrees with the migrations, and the databases are intact."""

from __future__ import annotations

from pathlib import Path

from dbctl.config.model import App
from dbctl.config.sections import Selection
from dbctl.errors.fleets import CanaryFailedError
from dbctl.services.migrations.ledger.state import read_state
from dbctl.services.migrations.status import find_targets


def verify_instance(configured: App, *, migrations: Path | None, timeout: float) -> None:
    """Verify the databases of an instance after its migrations; ``migrations`` is a folder instead of the configured one.

    Raises:
        CanaryFailedError: a check found an error.
        DbctlError: a database cannot be opened.
    """
    from dbctl.services.app.open import open_app
    from dbctl.services.checks.run import check

    with open_app(Selection(configured=configured), timeout=timeout) as app:
        for target in find_targets(app, "", migrations):
            if read_state(target, app.reader(target.database)).schema == "inconsistent":
                reason = f"the ledger of {target.name} does not agree with the migrations"
                raise CanaryFailedError(app=app.name, reason=reason)
        for finding in check(app, quick=True).findings.findings:
            if finding.severity == "error":
                raise CanaryFailedError(app=app.name, reason=f"{finding.code}: {finding.message}")
