"""Settings of an app and of its users."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.settings.changes import SettingChanged, reset_setting, set_setting
    from dbctl.services.settings.files import Difference, SettingsApplied
    from dbctl.services.settings.queries import add_for_user, defaults_of_new_user, table_of
    from dbctl.services.settings.table import Setting, SettingTable, database_of, section, setting_text_fault
    from dbctl.services.settings.values import load_json
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "changes": "SettingChanged reset_setting set_setting",
            "files": "Difference SettingsApplied",
            "queries": "add_for_user defaults_of_new_user table_of",
            "table": "Setting SettingTable database_of section setting_text_fault",
            "values": "load_json",
        },
    )
