"""Failures of search indexes and vectors."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class VectorInvalidError(DbctlError, status=Exit.USAGE):
    sentence, remedy = "{place} is not a usable vector: {reason}", "{hint}"


class VectorIndexUnsuitableError(DbctlError, status=Exit.REFUSED):
    sentence, remedy = "{target}: cannot index {name}: {reason}", "Nothing was changed. {hint}"


class VectorMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "{target} has no vector for {kind} {id!r}", "{hint}"


class TextIndexInvalidError(DbctlError, status=Exit.FAILED):
    sentence = "{target}: the new index {name} failed verification: {reason}"
    remedy = "It was rolled back. Please report this error."


class TextIndexForeignError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: {name} is a table, not a full-text index"
    remedy = "Nothing was changed. Rename that table, then run: `search index build`"
