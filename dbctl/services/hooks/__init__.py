"""Programs of the configuration that run before and after actions, and the maintenance mode of apps."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.hooks.action import HookedAction
    from dbctl.services.hooks.maintenance_mode import (
        ChangeMaintenanceMode,
        MaintenanceChanged,
        find_leftover,
    )
    from dbctl.services.hooks.program import HookContext, find_unusable_programs
