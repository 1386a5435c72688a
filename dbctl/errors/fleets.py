"""Failures of fleets: apps with many instances."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class FleetEmptyError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "{app} has no instance: {reason}", "Check the address of {app} in the configuration."


class InstanceNameInvalidError(DbctlError, status=Exit.USAGE):
    sentence = "{app} has an instance with an invalid name: {name!a}"
    remedy = "Names begin with a letter or a digit, and have up to 100 letters, digits, spaces and . _ @ + -."


class InstanceDuplicateError(DbctlError, status=Exit.REFUSED):
    sentence = "{name} and {other} are the same database"
    remedy = "Delete the link, or exclude the name: exclude = [...] under [apps.{app}.instances]."


class InstanceListingError(DbctlError, status=Exit.UNREACHABLE, code="instance-listing-failed"):
    sentence, remedy = "the instances of {app} cannot be listed: {reason}", "{hint}"


class WorkerEndedError(DbctlError, status=Exit.FAILED):
    sentence = "{app}: the process that worked on it ended unexpectedly ({reason})"
    remedy = "Its open transaction was rolled back. Try this instance alone: --app {app}"


class InstanceSkippedError(DbctlError, status=Exit.FAILED):
    sentence, remedy = "{app} was not processed: {reason}", "Nothing was changed in it."


class CanaryFailedError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "{app} failed the verification after the change: {reason}"
    remedy = "No other instance was changed. Examine it with: `integrity check`"


class RunMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "no recorded run of {command} on {app}", "Start one without --resume."
