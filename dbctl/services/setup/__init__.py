"""``dbctl init``: create a configuration for an app."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.setup.init import InitConfig, InitResult, config_exists
