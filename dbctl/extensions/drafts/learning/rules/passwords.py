"""What a new password changes: the hash, in a format that verifies it, and further columns of the user."""

from __future__ import annotations

from dbctl.extensions.drafts.document import Decision, Value
from dbctl.extensions.drafts.learning.scene import ChangedRow, LearnedKey, Lesson, Scene
from dbctl.model import Secret
from dbctl.profiles.codecs import read_text
from dbctl.profiles.passwords import find_prefix_problem, identify_format, read_prefix, verify_password


def learn_password(scene: Scene) -> Lesson:
    """Return the section about passwords, whose format verifies the password that was entered.

    Raises:
        DemonstrationWrongError: no password of the user changed.
    """
    users, user = scene.users, scene.find_user()
    key = user[users.id.column]
    row = next((row for row in scene.list_rows(users.table) if row.key.get(users.id.column) == key), None)
    if row is None or row.after is None:
        raise scene.create_error(f"the row of {scene.subject.login!r} did not change")
    if scene.password is None:
        raise scene.create_error(
            "the password is unknown", "Pass the password that was entered: --password-stdin."
        )
    return _learn_format(scene, row, scene.password)


def _learn_format(scene: Scene, row: ChangedRow, password: Secret) -> Lesson:
    for column, value in (row.after or {}).items():
        stored = read_text(value)
        form = identify_format(stored)
        if form and verify_password(password, stored, [form]):
            prefix = read_prefix(stored)
            problem = find_prefix_problem(prefix)
            section: dict[str, Value] = {"column": column}
            section |= {"accepts": [form]} if problem else {"writes": prefix}
            return Lesson(
                keys=[LearnedKey(path=("users", "password"), value=section, evidence=scene.evidence_count)],
                decided=["passwords"],
                decisions=[Decision("passwords", problem)] if problem else [],
            )
    return Lesson(decisions=[Decision("passwords", "no known format verifies the new password")])
