"""``dbctl init``: create a configuration for an app."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.setup.init import InitConfig, InitResult, config_exists
    from dbctl.services.setup.recognize import (
        FoundDatabase,
        find_single_app,
        is_place,
        recognize_databases,
    )
