"""The rules of each action: from the rows that it changed to keys of the profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dbctl.extensions import registry
from dbctl.extensions.base import Place
from dbctl.extensions.drafts.learning.recordings import Action
from dbctl.extensions.drafts.learning.scene import Lesson, Scene

_PACKAGE = "dbctl.extensions.drafts.learning.rules"
RULES: Mapping[Action, Place] = {
    "create-user": f"{_PACKAGE}.new_users:learn_user",
    "create-admin": f"{_PACKAGE}.new_users:learn_admin",
    "activate": f"{_PACKAGE}.states:learn_activity",
    "deactivate": f"{_PACKAGE}.states:learn_activity",
    "change-setting": f"{_PACKAGE}.settings:learn_setting",
    "set-role": f"{_PACKAGE}.roles:learn_role",
    "delete-user": f"{_PACKAGE}.deletion:learn_deletion",
    "reset-2fa": f"{_PACKAGE}.second_factors:learn_reset",
    "set-password": f"{_PACKAGE}.passwords:learn_password",
    "sign-in": f"{_PACKAGE}.sign_ins:learn_sign_in",
    "sign-out": f"{_PACKAGE}.sign_outs:learn_sign_out",
    "create-token": f"{_PACKAGE}.tokens:learn_token",
}


def find_rule(action: Action) -> Callable[[Scene], Lesson]:
    """Return the function that explains the rows of an action."""
    rule: Callable[[Scene], Lesson] = registry.load(RULES[action])
    return rule
