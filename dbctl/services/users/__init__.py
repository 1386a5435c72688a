"""Users of an app: list, create, update, delete, import, lockout, the last admin."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.users.create import NewUser, UserCreated
    from dbctl.services.users.delete import UsersDeleted, delete_users
    from dbctl.services.users.detail import UserShown, show_users
    from dbctl.services.users.files import Existing, read_lines
    from dbctl.services.users.import_export import UsersImported, export_users, import_users
    from dbctl.services.users.last_admin import admin_role, list_admins, may_sign_in
    from dbctl.services.users.lockout import list_locked
    from dbctl.services.users.ownership import STEP_SEPARATOR, follow_steps
    from dbctl.services.users.queries import PasswordChecked, UserFilter, open_user_table
    from dbctl.services.users.sign_in_state import match_logins
    from dbctl.services.users.update import Unlocked, UsersChanged, UserUpdate, join_logins, prepare_update
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "create": "NewUser UserCreated",
            "delete": "UsersDeleted delete_users",
            "detail": "UserShown show_users",
            "files": "Existing read_lines",
            "import_export": "UsersImported export_users import_users",
            "last_admin": "admin_role list_admins may_sign_in",
            "lockout": "list_locked",
            "ownership": "STEP_SEPARATOR follow_steps",
            "queries": "PasswordChecked UserFilter open_user_table",
            "sign_in_state": "match_logins",
            "update": "Unlocked UserUpdate UsersChanged join_logins prepare_update",
        },
    )
