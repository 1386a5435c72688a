"""Failures of embedders."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class EmbedderNotConfiguredError(DbctlError, status=Exit.USAGE):
    sentence = "no embedder is configured for {app}"
    remedy = (
        'Write [apps.{app}.embedder] into the configuration, with kind = "gemini", "openai", "command" or "local"'
        "{model}; or search with --similar-to ID or --vector FILE."
    )


class EmbedderKeyMissingError(DbctlError, status=Exit.USAGE):
    """The text never contains any part of what may be a key."""

    sentence = "the embedder of {app} has no key from {place}: {reason}"
    remedy = 'Set that variable, or set key_file = "FILE" under [apps.{app}.embedder] to a file with the key on its first line.'


class EmbedderPackageMissingError(DbctlError, status=Exit.USAGE):
    sentence = "the embedder of {app} requires the package {package} ({reason})"
    remedy = "Install it with pip install {package}, or pipx inject dbctl {package}."


class EmbedderFailedError(DbctlError, status=Exit.FAILED):
    """The text never contains the answer of a service, which may repeat a key."""

    sentence, remedy = "{place} returned no vector: {reason}", "{hint}"


class EmbedderUnreachableError(DbctlError, status=Exit.UNREACHABLE):
    sentence, remedy = "cannot reach the embedder {place}: {reason}", "{hint}"


class EmbedderBusyError(DbctlError, status=Exit.BUSY):
    sentence = "{place} accepts no further requests at the moment: {reason}"
    remedy = "Try again later, or raise timeout under [apps.NAME.embedder]."


class EmbedderRefusedError(DbctlError, status=Exit.REFUSED):
    sentence = "{place} rejected the key from {key_source}: {reason}"
    remedy = "Check the key and its permissions."
