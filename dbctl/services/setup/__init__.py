"""``dbctl init`` and ``dbctl config``: create a configuration for an app, and explain its keys."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.setup.configuration import (
        ConfiguredKey,
        KeyDescription,
        explain_config_key,
        read_config_schema,
        show_configuration,
    )
    from dbctl.services.setup.edit import ConfigEdited, edit_configuration, find_editor, select_file
    from dbctl.services.setup.init import InitConfig, InitResult, config_exists
    from dbctl.services.setup.recognize import RecognizedApp, is_place, recognize_app
