"""The functions that work on all instances of a fleet, which an extension has."""

from __future__ import annotations

from typing import Any, Literal

from dbctl.errors.usage import FleetSelectedError
from dbctl.extensions import registry


def load_function(purpose: Literal["fleet_runner", "fleet_status"], selected: FleetSelectedError) -> Any:
    """Return a function of the extension that works on all instances of a fleet.

    Raises:
        NotSupportedError: the extension is not installed.
    """
    app = selected.context["app"]
    return registry.require(purpose, f"the fleet {app}", f"Select an instance with --app {app}/NAME.")
