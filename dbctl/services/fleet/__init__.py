"""Fleets: one command on many instances of an app."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.fleet.instances import (
        Instance,
        ListedInstance,
        describe_instances,
        list_instances,
    )
    from dbctl.services.fleet.outcome import FleetResult, InstanceError, Outcome, Tally
    from dbctl.services.fleet.run import FleetRun, Kind, RunLimits
    from dbctl.services.fleet.verify import verify_instance
