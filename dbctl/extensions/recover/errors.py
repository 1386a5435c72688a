"""Failures of recoveries to a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.connection import CorruptError


class RecoveryNotConfiguredError(DbctlError, status=Exit.USAGE):
    sentence = "no archive is configured for {target}"
    remedy = "Store its log with: `backup log`; or set log, and for PostgreSQL base, under [apps.{app}.recovery.databases.{database}]; list the keys with: `config explain recovery`"


class RecoveryMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "{target}: {reason}", "No backup was created. {hint}"


class RecoveryTimeError(DbctlError, status=Exit.NOT_FOUND):
    """Context: ``at`` and ``reachable``: the range of the archive."""

    sentence = "{target} cannot be recovered as of {at}: {reason}"
    remedy = "No backup was created. {hint}"


class RecoveryRefusedError(DbctlError, status=Exit.REFUSED):
    sentence, remedy = "{target} cannot be recovered: {reason}", "No backup was created. {hint}"


class RecoveryFailedError(DbctlError, status=Exit.FAILED):
    sentence, remedy = "{target}: the private server failed: {reason}", "No backup was created. {hint}"


class RecoveryDamagedError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "the archive of {target} is damaged: {reason}"
    remedy = "No backup was created. Copy the file again from where it is archived, or use another base. Find damaged backups with: `backup verify`"


@contextmanager
def report_damage() -> Iterator[None]:
    """Raise the error about a damaged compressed file as one about the archive.

    Raises:
        RecoveryDamagedError: a ``CorruptError`` was raised.
    """
    try:
        yield
    except CorruptError as error:
        raise RecoveryDamagedError(**error.context) from error


class RecoveryServerMissingError(DbctlError, status=Exit.UNREACHABLE):
    sentence = "{target}: the programs of the server {server} are not installed"
    remedy = "No backup was created. Install the package {package}; none of its services has to run."


class LogForeignError(DbctlError, status=Exit.REFUSED):
    sentence = "the stored log of {target} is that of the server {stored}, not of {system}"
    remedy = "Nothing was stored. For a new server, store copy and log in another repository, with the option --repository or the key repository."


class LogLostError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "the server no longer had a part of the log of {target}: {lost}"
    remedy = "The log after it is stored. Only moments before it can be recovered until there is a new copy. {hint}"


class LogUnusableError(DbctlError, status=Exit.REFUSED):
    sentence, remedy = "the log of {target} cannot be stored: {reason}", "Nothing was stored. {hint}"


class StateMissingError(DbctlError, status=Exit.FAILED):
    sentence = "this machine has no directory for state, which has the log of {target} until it is stored"
    remedy = "Nothing was fetched. Set HOME or XDG_STATE_HOME, or state of the app to a directory."
