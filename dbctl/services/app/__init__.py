"""An opened app: its databases, users table, changes, audit, secrets, validation."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.app.app import App
    from dbctl.services.app.audit import acting_user
    from dbctl.services.app.change import (
        Change,
        Operation,
        Prepared,
        PreparedChange,
        require_row_count,
        required_for_cascade,
        retry_conflicts,
    )
    from dbctl.services.app.live_table import (
        LiveTable,
        find_column,
        find_named_key,
        has_all,
        require_codec,
        require_streams,
    )
    from dbctl.services.app.open import open_app, read_profile
    from dbctl.services.app.recording import record_operation
    from dbctl.services.app.results import (
        DatabaseResults,
        collect_results,
        create_result,
        missing_table_error,
        paginate,
        paginate_rows,
        selected_databases,
    )
    from dbctl.services.app.secrets import (
        KEY_FORMS,
        MASK,
        find_secret_columns,
        find_secret_values,
        has_secret_name,
        is_secret_setting,
        mask,
    )
    from dbctl.services.app.session import Session
    from dbctl.services.app.times import is_time, time_columns
    from dbctl.services.app.user_roles import (
        BOOLEAN_LABELS,
        BOOLEAN_TYPE,
        Assignment,
        RoleAction,
        RoleForm,
        is_boolean,
    )
    from dbctl.services.app.user_table import (
        TIMES,
        User,
        UserSelector,
        UserTable,
        open_users,
        users_database,
    )
    from dbctl.services.app.validation import (
        BOOLEAN_WORDS,
        check_rule,
        check_secret,
        normalise_value,
        parse_boolean,
        parse_time,
        text_problem,
        truncate,
        value_problem,
    )
