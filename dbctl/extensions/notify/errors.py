"""Failures of notifications."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class NotifyNotConfiguredError(DbctlError, status=Exit.USAGE):
    sentence = "no {channel} is configured for notifications"
    remedy = (
        "Add a section such as [notify.email], or the rule to on; list the keys with: `config explain notify`"
    )
