"""An opened app: its databases, users table, changes, audit, secrets, validation."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.app.app import App, find_wrong_app_hint, open_app
    from dbctl.services.app.audit import acting_user
    from dbctl.services.app.change import Change, PreparedChange, require_row_count, required_for_cascade
    from dbctl.services.app.live_table import LiveTable, find_column, has_all, is_optional, require_streams
    from dbctl.services.app.pagination import paginate
    from dbctl.services.app.per_database import DatabaseResults, collect_results, selected_databases
    from dbctl.services.app.secrets import KEY_FORMS, MASK, find_secret_columns, is_secret_setting, mask
    from dbctl.services.app.suggestions import suggest_question, suggest_sentence
    from dbctl.services.app.times import is_time, time_columns
    from dbctl.services.app.user_table import (
        BOOLEAN_TYPE,
        TIMES,
        User,
        UserSelector,
        UserTable,
        open_users,
        text_or_none,
        users_database,
    )
    from dbctl.services.app.validation import (
        BOOLEAN_WORDS,
        check_field,
        check_rule,
        check_secret,
        hash_problem,
        normalise_value,
        parse_boolean,
        parse_time,
        text_problem,
        truncate,
        value_problem,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "app": "App find_wrong_app_hint open_app",
            "audit": "acting_user",
            "change": "Change PreparedChange require_row_count required_for_cascade",
            "live_table": "LiveTable find_column has_all is_optional require_streams",
            "pagination": "paginate",
            "per_database": "DatabaseResults collect_results selected_databases",
            "secrets": "KEY_FORMS MASK find_secret_columns is_secret_setting mask",
            "suggestions": "suggest_question suggest_sentence",
            "times": "is_time time_columns",
            "user_table": "BOOLEAN_TYPE TIMES User UserSelector UserTable open_users text_or_none users_database",
            "validation": (
                "BOOLEAN_WORDS check_field check_rule check_secret hash_problem normalise_value parse_boolean "
                "parse_time text_problem truncate value_problem"
            ),
        },
    )
