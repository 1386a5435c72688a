"""The instances of a fleet: by a pattern of paths, by the names of the databases of a server, or by a query; and the outcome of a command on each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

from dbctl.config.model import App
from dbctl.config.resolver import FleetSelection, is_valid_name, select_instance
from dbctl.engines import registry
from dbctl.engines.contract.streaming import UserQuery
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.operations import (
    FleetEmptyError,
    InstanceDuplicateError,
    InstanceListingError,
    InstanceNameInvalidError,
)
from dbctl.errors.usage import FleetSelectedError
from dbctl.extensions import registry as extensions
from dbctl.model import Struct
from dbctl.services.app.live_table import require_streams
from dbctl.services.events.runs import HookRun
from dbctl.url import PLACEHOLDER, Url

#: Time limit for the query that lists instances.
QUERY_TIMEOUT = timedelta(seconds=60)


class Instance(Struct, frozen=True, kw_only=True):
    """One instance of a fleet, or a plain app."""

    fleet: App
    name: str  #: of the instance; empty: the plain app, or the fleet itself
    problem: DbctlError | None = None  #: why no command works on it

    @property
    def app(self) -> str:
        """The name of the app: ``APP/INSTANCE``."""
        return f"{self.fleet.name}/{self.name}" if self.name else self.fleet.name

    def configure(self) -> App:
        """Return the configured app; raises as ``select_instance``."""
        return select_instance(self.fleet, self.name) if self.name else self.fleet


def list_instances(selections: Sequence[FleetSelection], *, timeout: float) -> list[Instance]:
    """Return the selected instances of fleets, by name; those with a problem are included.

    Of several fleets, one whose instances cannot be listed is an instance with this problem, which must not hide the others.

    Raises:
        FleetEmptyError: the fleet has no instance, or none matches the pattern.
        InstanceListingError, UnreachableError: its instances cannot be listed.
    """
    instances = list[Instance]()
    for selection in selections:
        try:
            instances += _list_selected(selection, timeout)
        except DbctlError as error:
            if len(selections) == 1:
                raise
            instances.append(Instance(fleet=selection.app, name="", problem=error))
    return instances


def _list_selected(selection: FleetSelection, timeout: float) -> Iterator[Instance]:
    app, pattern = selection.app, selection.pattern
    if selection.problem:
        raise selection.problem
    if not app.is_fleet:
        yield Instance(fleet=app, name="")
        return
    if app.listing_url:
        listed = _list_by_query(app, timeout)
    else:
        address = _find_address(app)
        listed = (
            _list_by_paths(app, address.path) if address.is_local else _list_by_names(app, address, timeout)
        )
    selected = [
        instance
        for instance in listed
        if fnmatchcase(instance.name, pattern or PLACEHOLDER)
        and not any(fnmatchcase(instance.name, excluded) for excluded in app.instances.exclude)
    ]
    if not selected:
        reason = f"none matches {pattern!r}" if pattern and listed else _describe_source(app)
        raise FleetEmptyError(app=app.name, reason=reason)
    yield from selected


def _describe_source(app: App) -> str:
    if app.listing_url:
        return "its query returned no row"
    address = _find_address(app)
    return (
        f"no path matches {address.path}"
        if address.is_local
        else f"no database of the server matches {address.path}"
    )


def _find_address(app: App) -> Url:
    """Return the first address with a placeholder in its path, or in the name of its database.

    Raises:
        InstanceListingError: there is none, or the placeholder is also in the route to its server.
    """
    for url in app.databases.values():
        if PLACEHOLDER in url.path and PLACEHOLDER not in url.via:
            if url.path.count(PLACEHOLDER) > 1:
                raise InstanceListingError(
                    app=app.name, reason=f"{url.path} contains * twice", hint="Write * once in an address."
                )
            return url
    raise InstanceListingError(
        app=app.name,
        reason="neither paths nor databases of one server have its names, and no query lists them",
        hint=f"Add url and query under [apps.{app.name}.instances].",
    )


def _list_by_names(app: App, address: Url, timeout: float) -> list[Instance]:
    """Return an instance for each database of the server whose name matches the address; raises as ``Engine.list_databases``."""
    before, after = address.path.split(PLACEHOLDER)
    names = registry.load_engine(address.engine).list_databases(address, app.name, timeout=timeout)
    return [
        _create_instance(app, name[len(before) : len(name) - len(after)])
        for name in names
        if len(name) > len(before + after) and name.startswith(before) and name.endswith(after)
    ]


def _list_by_paths(app: App, address: str) -> list[Instance]:
    """Return an instance for each path that matches the address; two paths to one file are a problem of the second."""
    before, after = address.split(PLACEHOLDER)
    folder, _, prefix = before.rpartition("/")
    suffix, separator, remainder = after.partition("/")
    try:
        with os.scandir(folder or "/") as entries:
            names = [
                entry.name[len(prefix) : len(entry.name) - len(suffix)]
                for entry in entries
                if entry.name.startswith(prefix)
                and entry.name.endswith(suffix)
                and len(entry.name) > len(prefix + suffix)
                and not (entry.name.startswith(".") and not prefix)
            ]
    except OSError as error:
        raise InstanceListingError(
            app=app.name, reason=f"{folder}: {error.strerror}", hint="Check the address in the configuration."
        ) from error
    instances, name_by_file = list[Instance](), dict[tuple[int, int], str]()
    start = f"{folder}/{prefix}"
    paths = [(name, f"{start}{name}{suffix}", f"{separator}{remainder}") for name in names]
    # a link is the second path to its file, whatever its name
    matches = sorted(
        (any(map(os.path.islink, (matched, matched + within))), name, matched + within)
        for name, matched, within in paths
    )
    for _, name, path in matches:
        try:
            status = os.stat(path)  # noqa: PTH116 - pathlib is slow for 100,000 paths
        except NotADirectoryError:  # a file between the folders of the instances
            continue
        except OSError:  # a folder without its database: opening it reports the error
            instances.append(_create_instance(app, name))
            continue
        other = name_by_file.setdefault((status.st_dev, status.st_ino), name)
        instances.append(_create_instance(app, name, other if other != name else ""))
    return sorted(instances, key=lambda instance: instance.name)


def _list_by_query(app: App, timeout: float) -> list[Instance]:
    url = app.listing_url
    if url is None:
        raise ValueError(app.name)
    engine = registry.load_engine(url.engine)
    names = list[object]()
    try:
        with closing(engine.open_for_reading(url, app.name, timeout=timeout)) as db:
            query = UserQuery(app.instances.query, timeout=QUERY_TIMEOUT)
            with require_streams(db).query_read_only(query) as stream:
                if len(stream.columns) != 1:
                    raise InstanceListingError(
                        app=app.name,
                        reason=f"the query returns {len(stream.columns)} columns",
                        hint="Return one column: the names of the instances.",
                    )
                names += [row[0] for batch in stream.batches for row in batch]
    except QueryFailedError as error:
        hint = f"Check query under [apps.{app.name}.instances]."
        raise InstanceListingError(app=app.name, reason=error.context["reason"], hint=hint) from error
    return [
        _create_instance(app, name)
        if isinstance(name, str)
        else Instance(
            fleet=app,
            name="NULL" if name is None else str(name),
            problem=InstanceNameInvalidError(app=app.name, name=name),
        )
        for name in sorted(set(names), key=str)  # a name that is listed twice is one instance
    ]


def _create_instance(app: App, name: str, other: str = "") -> Instance:
    """Return an instance; ``other`` is an earlier one with the same database."""
    problem: DbctlError | None = None
    if not is_valid_name(name):
        problem = InstanceNameInvalidError(app=app.name, name=name)
    elif other:
        problem = InstanceDuplicateError(app=app.name, name=f"{app.name}/{name}", other=f"{app.name}/{other}")
    return Instance(fleet=app, name=name, problem=problem)


def load_function(purpose: Literal["fleet_runner", "fleet_status"], selected: FleetSelectedError) -> Any:
    """Return a function of the extension that works on all instances of a fleet.

    Raises:
        NotSupportedError: the extension is not installed.
    """
    app = selected.context["app"]
    return extensions.require(purpose, f"the fleet {app}", f"Select an instance with --app {app}/NAME.")


#: ``skipped``: the instance was not processed, or has nothing to which the command applies.
State: TypeAlias = Literal["done", "failed", "skipped"]


class InstanceError(Struct, frozen=True, kw_only=True):
    """The error of one instance."""

    code: str
    message: str
    hint: str


class Outcome(Struct, frozen=True, kw_only=True):
    """What a command did on one instance."""

    app: str  #: ``APP/INSTANCE``
    state: State
    exit_code: int
    duration: float = 0.0  #: seconds
    data: Any = None  #: the result of the command on this instance
    warnings: Sequence[str] = ()
    error: InstanceError | None = None
    hooks: Sequence[HookRun] = ()  #: that ran for the instance
    audit: str = ""  #: the end of the audit log after the last change, ``SEQUENCE:HASH``; empty: no change

    @staticmethod
    def from_error(app: str, error: DbctlError, *, state: State = "failed") -> Outcome:
        """Return the outcome of an instance that was not processed, or whose command failed."""
        details = InstanceError(code=error.code, message=str(error), hint=error.hint)
        return Outcome(app=app, state=state, exit_code=int(error.exit_status), error=details)


class FleetResult(Struct, frozen=True, kw_only=True):
    """The result of a command on a fleet; each item contains the outcome of one instance."""

    command: str
    done: int
    failed: int
    skipped: int
    items: Sequence[Outcome] = ()
