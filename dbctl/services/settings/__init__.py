"""Settings of an app and of its users."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.settings.changes import SettingChanged, reset_setting, set_setting
    from dbctl.services.settings.collection import SettingCollection
    from dbctl.services.settings.files import Difference, SettingsApplied
    from dbctl.services.settings.queries import add_for_user, defaults_for_new_user, settings_table_name
    from dbctl.services.settings.rows import SettingRows
    from dbctl.services.settings.store import Setting, find_section, find_text_violation, settings_database
    from dbctl.services.settings.values import load_json
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "changes": "SettingChanged reset_setting set_setting",
            "collection": "SettingCollection",
            "files": "Difference SettingsApplied",
            "queries": "add_for_user defaults_for_new_user settings_table_name",
            "rows": "SettingRows",
            "store": "Setting find_section find_text_violation settings_database",
            "values": "load_json",
        },
    )
