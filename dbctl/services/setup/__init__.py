"""``dbctl init``: create a configuration for an app."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.setup.init import InitConfig, InitResult, config_exists
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "init": "InitConfig InitResult config_exists",
        },
    )
