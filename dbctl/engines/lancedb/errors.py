"""What the library reports becomes a failure of ours; it has few classes of errors, so that words count."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dbctl import signals
from dbctl.engines.lancedb.location import Place
from dbctl.errors import (
    ChangedMeanwhileError,
    ConstraintError,
    CorruptError,
    DbctlError,
    DiskFullError,
    QueryFailedError,
    ReadOnlyError,
    VersionsKeptError,
)

#: Where in its own source something was noticed, which tells nobody anything.
_SOURCE = re.compile(r",? ?/\S*?\.rs:\d+(?::\d+)?|This issue was likely caused by a bug.*", re.DOTALL)
_PREFIX = re.compile(r"^(?:lance error: |Invalid input, |LanceError\(\w+\): )+")
#: What storage answered, or why nothing did, deep in what the library says of it.
_ANSWERED = re.compile(
    r"RetryError.*?(?:status: (?P<status>\d+).*?(?:<Message>(?P<message>.*?)</Message>|$)|message: \"(?P<other>[^\"]+)\")",
    re.DOTALL,
)
_KEPT = 400  #: letters of a reason
#: What it raises where its own code gave up, since it trusts what it reads; no module of it has these classes.
_PANICS = frozenset({"RustPanic", "PanicException"})


@contextmanager
def translated(place: Place) -> Iterator[None]:
    """Raise what the library reports as a failure of ours."""
    try:
        with unpanicked():
            yield
    except DbctlError:
        raise
    except (ValueError, RuntimeError, OSError, TypeError, NotImplementedError) as error:
        signals.check()
        raise failure(error, place) from error


@contextmanager
def unpanicked() -> Iterator[None]:
    """Raise a panic of the library as a RuntimeError, as it raises what else it finds wrong with files."""
    try:
        yield
    except BaseException as error:  # some panics are no Exception
        if type(error).__name__ not in _PANICS:
            raise
        raise RuntimeError("what is in the files made the library of LanceDB panic") from error


def failure(error: Exception, place: Place) -> DbctlError:
    """Return the failure that ``error`` is."""
    told = reason_of(error)
    for words, make in _FAILURES.items():
        if re.search(words, str(error), re.IGNORECASE):
            return make(place, told)
    return QueryFailedError(target=place.target, reason=told)


def reason_of(error: Exception) -> str:
    """Return what the library says, without where in its source it says so."""
    answered = _ANSWERED.search(str(error))
    if answered:
        return answered["message"] or answered["other"] or f"it answered {answered['status']}"
    words = _PREFIX.sub("", _SOURCE.sub("", str(error))).strip()
    return (words[:_KEPT] + "…" if len(words) > _KEPT else words) or type(error).__name__


#: The first that fits counts.
_FAILURES: dict[str, Callable[[Place, str], DbctlError]] = {
    r"Query timeout": lambda place, told: QueryFailedError(target=place.target, reason=told),
    r"no space left|os error 28": lambda place, _: DiskFullError(target=place.target),
    r"read-only file ?system|os error 30": lambda place, told: ReadOnlyError(
        target=place.target, reason=told, instead="Nothing was changed."
    ),
    r"permission denied|os error 13|AccessDenied|403 Forbidden|InvalidAccessKeyId|SignatureDoesNotMatch": lambda place, told: (
        place.unreachable(told)
    ),
    r"tagged version": lambda place, told: VersionsKeptError(
        target=place.target, tags=told.partition("{")[2].partition("}")[0] or told
    ),
    r"commit conflict|too many concurrent writers|was preempted|concurrent": lambda place, _: (
        ChangedMeanwhileError(target=place.target)
    ),
    r"RetryError|error sending request|Generic S3 error|timed out|dispatch failure|NoSuchBucket|connect error": lambda place, told: (
        place.unreachable(told)
    ),
    r"NaN values|Cannot cast to FixedSizeList|non-nullable|contained null|cast error|append with different schema|does not match": lambda place, told: (
        ConstraintError(target=place.target, reason=told)
    ),
    r"correct footer|unsupported index version|not found: |no longer exists|object at location|no such file|os error 2\b|corrupt|invalid (?:magic|metadata|manifest|protobuf|file)|failed to (?:decode|fill|parse)|decode|unexpected end|out of bounds|file size|outside (?:of )?file|IPC footer|range|malformed|overflow|buffer|panic": lambda place, told: (
        CorruptError(target=place.target, reason=told)
    ),
}
