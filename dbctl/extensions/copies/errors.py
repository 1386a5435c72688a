"""Failures of anonymised copies."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class CopyRulesMissingError(DbctlError, status=Exit.REFUSED):
    """Context: ``columns``: ``table.column`` of each, separated by commas."""

    sentence = "{target}: {count} without a rule can hold personal data: {columns}"
    remedy = "No copy was created. Add a rule for each to [anonymise] of the profile, or copy a column as it is with --keep TABLE.COLUMN; show the tables with: `schema show`"


class CopyUnreadableError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: {objects} cannot be rewritten: {reason}"
    remedy = "No copy was created. {hint}"


class CopyConstraintError(DbctlError, status=Exit.REFUSED):
    """Context: ``columns``: those whose new values may violate the constraint, and ``reason``, without values."""

    sentence = "{target}: the pseudonyms of {columns} violate a constraint: {reason}"
    remedy = "No copy was created. Change the rule of the column in [anonymise] of the profile, or copy it as it is with --keep TABLE.COLUMN; show the tables with: `schema show`"


class CopyLeakError(DbctlError, status=Exit.CHECK_FAILED):
    """Context: ``places``: columns of the originals with their numbers."""

    sentence = "{target}: the anonymised copy contains {count} of {searched} searched originals: {places}"
    remedy = "No copy was created. Another column or a comment has the same values: add a rule for the column, or change the comment. List what is copied with: `copy --to FILE --anonymise --dry-run`"


class CopyKeysError(DbctlError, status=Exit.CHECK_FAILED):
    """Context: ``columns`` with the numbers of originals in the keys and numbers of their documents; ``column``: the first."""

    sentence = "{target}: keys or numbers in the documents of {columns} are originals of other columns"
    remedy = "No copy was created. Add their rule to that of the column in [anonymise] of the profile, such as keys = {{ '*@*' = 'email' }}; or, if they identify no one, copy them with: `copy --to FILE --anonymise --keep-keys {column}`"


class CopyKeyInvalidError(DbctlError, status=Exit.USAGE):
    sentence = "cannot use the key {path}: {reason}"
    remedy = "Use a file with at least {least} random bytes, or the name of a new file, which is created."
