"""Users of an app: list, create, update, delete, import, lockout, the last admin."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.users.create import (
        NewUser,
        UserCreated,
        check_password,
        create_user,
        hash_password,
    )
    from dbctl.services.users.delete import UsersDeleted, delete_users
    from dbctl.services.users.detail import UserShown, show_users
    from dbctl.services.users.ensure import ensure_user, needs_password
    from dbctl.services.users.exclusive_role import find_holder_problem
    from dbctl.services.users.files import Existing, read_lines
    from dbctl.services.users.import_export import UsersImported, export_users, import_users
    from dbctl.services.users.last_admin import admin_role, list_admins, may_sign_in
    from dbctl.services.users.lockout import Unlocked, list_locked, unlock
    from dbctl.services.users.ownership import follow_steps
    from dbctl.services.users.passwords import (
        PasswordChecked,
        Passwords,
        StoredFormats,
        compare_password,
    )
    from dbctl.services.users.queries import UserFilter, find_single_user, list_users
    from dbctl.services.users.role_changes import add_role, remove_role, set_role
    from dbctl.services.users.sign_in_state import NEXT, SignInChanges, match_logins, where_payload
    from dbctl.services.users.update import (
        UpdateUsers,
        UsersChanged,
        UserUpdate,
        join_logins,
        set_active,
        set_password,
        update_user,
    )
