"""Failures of the audit log and of undo."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class AuditUnavailableError(DbctlError):
    code, exit_status = "audit-unavailable", Exit.UNREACHABLE
    sentence = "the audit log {path} cannot be used: {reason}"
    remedy = "Set DBCTL_STATE, or folder under [journal], to another directory."


class AuditInvalidError(DbctlError):
    code, exit_status = "audit-invalid", Exit.CHECK_FAILED
    sentence = "the audit log {path} is not intact: {reason}"
    remedy = "List the problems with: `audit verify`"


class OperationNotFoundError(DbctlError):
    code, exit_status = "operation-not-found", Exit.NOT_FOUND
    sentence = "the audit log has no operation {number}"
    remedy = "List the operations with: `audit list`"


class UndoImpossibleError(DbctlError):
    code, exit_status = "undo-impossible", Exit.REFUSED
    sentence = "operation {number} ({command}) cannot be undone: {reason}"
    remedy = "{hint}"


class UndoConflictError(DbctlError):
    code, exit_status = "undo-conflict", Exit.REFUSED
    sentence = "{rows} of operation {number} changed since"
    remedy = "Nothing was changed. Undo the later changes first; list them with: `audit list`"


class UndoAppError(DbctlError):
    code, exit_status = "undo-other-app", Exit.USAGE
    sentence = "operation {number} changed the app {expected}, not {app}"
    remedy = "Select that app with --app, and its configuration with --config."
