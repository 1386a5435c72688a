"""The functions that work on all instances of a fleet, which an extension has."""

from __future__ import annotations

from typing import Any, Literal

from dbctl.errors.usage import FleetSelectedError, NotSupportedError
from dbctl.extensions import registry


def load_function(purpose: Literal["fleet_runner", "fleet_status"], selected: FleetSelectedError) -> Any:
    """Return a function of the extension that works on all instances of a fleet.

    Raises:
        NotSupportedError: the extension is not installed.
    """
    place = registry.find_place(purpose)
    if place is None:
        app = selected.context["app"]
        raise NotSupportedError(
            feature=f"the fleet {app}",
            subject="this installation of dbctl",
            hint=f"Its extension is not installed. Select an instance with --app {app}/NAME.",
        ) from selected
    return registry.load(place)
