"""Failures of learning: demonstrations that show no rule, and recordings that cannot be read."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit

_NOTHING = "Nothing was written to the profile."


class DemonstrationEmptyError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "the two states are equal: the app changed no row"
    remedy = f"{_NOTHING} Check that the action succeeded in the app, and that it uses this database."


class DemonstrationWrongError(DbctlError, status=Exit.CHECK_FAILED):
    """Context: ``action`` and ``reason``; a hint if more is known than that the action has to be repeated."""

    sentence, remedy = "the demonstration shows no {action}: {reason}", f"{_NOTHING} {{hint}}"
    default_hint = "Repeat the action in the app, with the login that --login names."


class ActionFailedError(DbctlError, status=Exit.CHECK_FAILED):
    """Context: ``output`` is the last line of the command."""

    sentence = "the command of the action failed: {reason}; its output ends with {output!r}"
    remedy = f"{_NOTHING} Run the command until it succeeds, and learn again."


class StatesUnrelatedError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "the two states are not of one database: {reason}"
    remedy = f"{_NOTHING} Pass the states directly before and after the action."


class RecordingsMissingError(DbctlError, status=Exit.NOT_FOUND):
    """Context: ``path`` of the profile, and ``action``."""

    sentence = "{path} has no recording of {action}"
    remedy = "Record a demonstration with: `profiles learn ACTION --before FILE --after FILE --login LOGIN --to {path}`"


class ProfileChangedError(DbctlError, status=Exit.REFUSED):
    sentence = "another process changed {path} at the same time"
    remedy = "Nothing was written. Check its text, and run the command again."


class RecordingInvalidError(DbctlError, status=Exit.FAILED):
    sentence = "{path} is no recording: {reason}"
    remedy = "Delete its folder, and learn the action again."
