"""Selection of the form in which an app stores the roles of users."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.engines.contract.database import Where
from dbctl.profiles.model.users import Users
from dbctl.services.app.live_table import LiveTable
from dbctl.services.app.user_roles.columns import Ranks, RoleColumn
from dbctl.services.app.user_roles.form import RoleForm


def create_role_form(users: Users, live: LiveTable, only: Sequence[Where]) -> RoleForm | None:
    """Return the roles of users; None if the app has none.

    Args:
        users: the section of the profile.
        live: the table of users.
        only: the conditions of its rows that are users.

    Raises:
        SchemaMismatchError: the database lacks a column or table of the section.
    """
    role = users.role
    if role is None:
        return None
    if role.column:
        return RoleColumn(users, role, live, only)
    if role.ranks and not role.members:
        return Ranks(users, role, live, only)
    if role.metadata:
        from dbctl.services.app.user_roles.metadata import Metadata

        return Metadata(users, role, live, only)
    if role.ranks:
        from dbctl.services.app.user_roles.members import RankedMembers

        return RankedMembers(users, role, live, only)
    from dbctl.services.app.user_roles.members import Members

    return Members(users, role, live, only)
