"""Migrations: status, up, down, baseline, lint, rehearse, drift, repair."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.migrations.baseline import Adopting, Adoption
    from dbctl.services.migrations.down import Downgrade, Reach, TakenBack
    from dbctl.services.migrations.lint_rules import KINDS
    from dbctl.services.migrations.rehearse import Rehearsal
    from dbctl.services.migrations.repair import Mending, Outcome
    from dbctl.services.migrations.reset import Reset
    from dbctl.services.migrations.safety_backup import Safety
    from dbctl.services.migrations.status import shipped_track
    from dbctl.services.migrations.up import NOTHING_PENDING, Applied, Pending, Upgrade, apply_all
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "baseline": "Adopting Adoption",
            "down": "Downgrade Reach TakenBack",
            "lint_rules": "KINDS",
            "rehearse": "Rehearsal",
            "repair": "Mending Outcome",
            "reset": "Reset",
            "safety_backup": "Safety",
            "status": "shipped_track",
            "up": "Applied NOTHING_PENDING Pending Upgrade apply_all",
        },
    )
