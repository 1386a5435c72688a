"""The roles of users, in each form in which an app stores them."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.app.user_roles.columns import BOOLEAN_LABELS, BOOLEAN_TYPE, WHOLE_TYPE, is_boolean
    from dbctl.services.app.user_roles.form import Assignment, Problem, RoleAction, RoleForm
    from dbctl.services.app.user_roles.registry import create_role_form
