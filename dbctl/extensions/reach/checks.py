"""The check of ``doctor`` that describes the parts of routes to databases; the first one that fails is the error of its database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from dbctl.errors.base import DbctlError
from dbctl.extensions.reach.containers import Container
from dbctl.extensions.reach.machines import Machine
from dbctl.extensions.reach.routes import ROUTES
from dbctl.extensions.reach.volumes import locate
from dbctl.files.limited_program import ProgramFailedError
from dbctl.model import Finding
from dbctl.services.app.evidence.subjects import Needs, Subject, check, require
from dbctl.url import LOOPBACK, Url, find_engine, parse_url

#: Prints the paths of the programs that copy a file of SQLite, and of dbctl.
_FIND_PROGRAMS = "for name in sqlite3 python3 dbctl; do command -v $name; done; true"


@check("route-open", needs=Needs.NOTHING)
def check_route(subject: Subject) -> Iterator[Finding]:
    """Yield a finding for each part of the route to a database that works, up to the first that does not."""
    url = require(subject.app.configured.databases.get(subject.database))  # an optional one may be missing
    require(url.routed or url.via)
    # that of the part that does not work, which was reported when the database was opened
    with suppress(DbctlError):
        for text in _describe_parts(url, subject):
            yield subject.finding("info", "route-open", text)


def _describe_parts(url: Url, subject: Subject) -> Iterator[str]:
    """Yield the parts that work; raises the error of the first one that does not."""
    if url.routed:
        yield f"{parse_url(url.routed).via}: the path is {url.path} of this machine"
        return
    hosts = [part for part in url.via.split() if part.startswith("ssh:")]
    # A route that could not be opened is not opened again as a whole: a dead host takes all of its time.
    is_open = ROUTES.is_open(url.via) or not subject.is_excluded
    for number, host in enumerate(hosts, start=1):
        if not is_open:
            if number == len(hosts):
                return
            ROUTES.find_machine(" ".join(hosts[:number]), subject.target)
        yield f"{host}: the host accepts the key"
    if (entry := find_engine(url.engine)) and entry.kind == "file":
        yield from _describe_copy(url, subject, is_in_container=" ".join(hosts) != url.via)
    else:
        end = ROUTES.find_end(url.via, subject.target)
        if isinstance(end, Container):
            yield f"{end.part}: the container runs"
            connector = f"{end.relay} in it" if end.relay else end.machine.place
            yield f"{end.part}: {connector} opens connections" + ("" if end.relay else f" to {end.address}")
        if not subject.is_excluded:
            yield f"{url.host or LOOPBACK}: the server answers"


def _describe_copy(url: Url, subject: Subject, *, is_in_container: bool) -> Iterator[str]:
    machine = ROUTES.find_machine(url.via, subject.target)
    path = url.path
    if is_in_container:
        container = url.via.split()[-1]
        path = locate(machine, container, url, subject.target)
        yield f"{container}: the path is {path} of {machine.place}"
    programs = _find_programs(machine)
    if copier := programs.get("sqlite3") or programs.get("python3"):
        yield f"{machine.place}: {copier} can copy a file that is in use"
    if program := programs.get("dbctl"):
        yield f"{machine.place}: dbctl is installed there, {program}"
    if not subject.is_excluded:
        yield f"{path}: the file was copied"


def _find_programs(machine: Machine) -> dict[str, str]:
    """Return the paths of programs by their names, as far as the login finds them."""
    try:
        output = machine.run(["sh", "-c", _FIND_PROGRAMS])
    except ProgramFailedError:
        return {}
    return {line.rpartition("/")[2]: line for line in output.decode(errors="replace").splitlines()}
