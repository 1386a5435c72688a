"""Settings of an app and of its users."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.settings.changes import (
        Difference,
        SettingChanged,
        SettingsApplied,
        apply_file,
        compare_file,
        reset_setting,
        set_setting,
    )
    from dbctl.services.settings.encodings import decode
    from dbctl.services.settings.files import read_settings_file
    from dbctl.services.settings.metadata import SettingUpdated, update_setting
    from dbctl.services.settings.queries import (
        add_for_user,
        defaults_for_new_user,
        open_settings,
        settings_table_name,
    )
    from dbctl.services.settings.rows import SettingRows
    from dbctl.services.settings.store import (
        Setting,
        SettingOwner,
        SettingStore,
        find_key,
        find_section,
        find_text_violation,
        scope_of,
        settings_database,
    )
    from dbctl.services.settings.values import load_json, parse_schema
