"""Translate errors of the library to errors of dbctl; it has few classes, so the messages decide."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dbctl import signals
from dbctl.engines.lancedb.location import Location
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import (
    ConcurrentChangeError,
    ConstraintError,
    CorruptError,
    DiskFullError,
    QueryFailedError,
    ReadOnlyError,
)
from dbctl.errors.databases import VersionsTaggedError

#: Source locations of the library in its messages.
_SOURCE_LOCATION = re.compile(
    r",? ?/\S*?\.rs:\d+(?::\d+)?|This issue was likely caused by a bug.*", re.DOTALL
)
_PREFIX = re.compile(r"^(?:lance error: |Invalid input, |LanceError\(\w+\): )+")
#: The response of the storage, or the reason for none, inside a long message of the library.
_STORAGE_REPLY = re.compile(
    r"RetryError.*?(?:status: (?P<status>\d+).*?(?:<Message>(?P<message>.*?)</Message>|$)|message: \"(?P<other>[^\"]+)\")",
    re.DOTALL,
)
_MAX_REASON = 400  #: characters
#: Classes of panics in the library's native code, for example after reading damaged files; they cannot be imported.
_PANIC_CLASSES = frozenset({"RustPanic", "PanicException"})


@contextmanager
def translate_errors(location: Location) -> Iterator[None]:
    """Raise errors of the library as errors of dbctl."""
    try:
        with translate_panics():
            yield
    except DbctlError:
        raise
    except (ValueError, RuntimeError, OSError, TypeError, NotImplementedError) as error:
        signals.raise_if_interrupted()
        raise translate_error(error, location) from error


@contextmanager
def translate_panics() -> Iterator[None]:
    """Raise a panic of the library as a RuntimeError, the class of its other file errors."""
    try:
        yield
    except BaseException as error:  # some panics do not derive from Exception
        if type(error).__name__ not in _PANIC_CLASSES:
            raise
        raise RuntimeError("panic of the LanceDB library, caused by the content of the files") from error


def translate_error(error: Exception, location: Location) -> DbctlError:
    """Return the error of dbctl for an error of the library."""
    reason = extract_reason(error)
    for pattern, create_error in _ERROR_PATTERNS.items():
        if re.search(pattern, str(error), re.IGNORECASE):
            return create_error(location, reason)
    return QueryFailedError(target=location.target, reason=reason)


def extract_reason(error: Exception) -> str:
    """Return the library's message without source locations."""
    reply = _STORAGE_REPLY.search(str(error))
    if reply:
        return reply["message"] or reply["other"] or f"status {reply['status']}"
    text = _PREFIX.sub("", _SOURCE_LOCATION.sub("", str(error))).strip()
    return (text[:_MAX_REASON] + "…" if len(text) > _MAX_REASON else text) or type(error).__name__


#: The first matching pattern decides.
_ERROR_PATTERNS: dict[str, Callable[[Location, str], DbctlError]] = {
    r"Query timeout": lambda location, reason: QueryFailedError(target=location.target, reason=reason),
    r"no space left|os error 28": lambda location, _: DiskFullError(target=location.target),
    r"read-only file ?system|os error 30": lambda location, reason: ReadOnlyError(
        target=location.target, reason=reason, hint="Nothing was changed."
    ),
    r"permission denied|os error 13|AccessDenied|403 Forbidden|InvalidAccessKeyId|SignatureDoesNotMatch": lambda location, reason: (
        location.unreachable(reason)
    ),
    r"tagged version": lambda location, reason: VersionsTaggedError(
        target=location.target, tags=reason.partition("{")[2].partition("}")[0] or reason
    ),
    r"commit conflict|too many concurrent writers|was preempted|concurrent": lambda location, _: (
        ConcurrentChangeError(target=location.target)
    ),
    r"RetryError|error sending request|Generic S3 error|timed out|dispatch failure|NoSuchBucket|connect error": lambda location, reason: (
        location.unreachable(reason)
    ),
    r"NaN values|Cannot cast to FixedSizeList|non-nullable|contained null|cast error|append with different schema|does not match": lambda location, reason: (
        ConstraintError(target=location.target, reason=reason)
    ),
    r"correct footer|unsupported index version|not found: |no longer exists|object at location|no such file|os error 2\b|corrupt|invalid (?:magic|metadata|manifest|protobuf|file)|failed to (?:decode|fill|parse)|decode|unexpected end|out of bounds|file size|outside (?:of )?file|IPC footer|range|malformed|overflow|buffer|panic": lambda location, reason: (
        CorruptError(target=location.target, reason=reason)
    ),
}
