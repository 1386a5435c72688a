"""An opened app: its databases, users table, changes, audit, secrets, validation."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.app.app import App, recognised_as
    from dbctl.services.app.audit import acting_user
    from dbctl.services.app.change import Change, Draft, exactly, reaching
    from dbctl.services.app.live_table import Live, find_column, has, may_lack, streams
    from dbctl.services.app.pagination import page_of
    from dbctl.services.app.per_database import Figures, configured, figures
    from dbctl.services.app.secrets import KEY_FORMS, MASK, hidden, is_secret, mask
    from dbctl.services.app.suggestions import hint, question
    from dbctl.services.app.times import is_time, time_columns
    from dbctl.services.app.user_table import (
        BOOLEAN_TYPE,
        TIMES,
        User,
        UserSelector,
        UserTable,
        database_of,
        text,
        users_beside,
    )
    from dbctl.services.app.validation import (
        WORDS,
        as_word,
        check_field,
        check_rule,
        check_secret,
        cut,
        hash_fault,
        outside,
        read_moment,
        read_word,
        text_fault,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "app": "App recognised_as",
            "audit": "acting_user",
            "change": "Change Draft exactly reaching",
            "live_table": "Live find_column has may_lack streams",
            "pagination": "page_of",
            "per_database": "Figures configured figures",
            "secrets": "KEY_FORMS MASK hidden is_secret mask",
            "suggestions": "hint question",
            "times": "is_time time_columns",
            "user_table": "BOOLEAN_TYPE TIMES User UserTable UserSelector database_of text users_beside",
            "validation": (
                "WORDS as_word check_field check_rule check_secret cut hash_fault outside read_moment read_word "
                "text_fault"
            ),
        },
    )
