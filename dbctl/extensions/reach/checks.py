"""The check of ``doctor`` that describes the routes to databases; a broken part is the error of its database."""

from __future__ import annotations

from collections.abc import Iterator

from dbctl.extensions.reach.containers import Container
from dbctl.extensions.reach.routes import ROUTES
from dbctl.model import Finding
from dbctl.services.app.evidence.subjects import Needs, Subject, check, require
from dbctl.url import DEFAULT_PORTS


@check("route-open", needs=Needs.NOTHING)
def check_route(subject: Subject) -> Iterator[Finding]:
    """Yield what each part of the route to a database has shown; none if a part is broken, which is a finding of its own."""
    url = require(subject.app.configured.databases.get(subject.database))  # an optional one may be missing
    require(url.via and url.engine in DEFAULT_PORTS and not subject.is_excluded)
    end = ROUTES.find_end(url.via, subject.target)
    steps = [
        f"{part.removeprefix('ssh:')} accepts the key" for part in url.via.split() if part.startswith("ssh:")
    ]
    if isinstance(end, Container):
        connection = "a program in it connects" if end.has_relay else f"its machine reaches {end.address}"
        steps += [f"{end.part} runs", connection]
    yield subject.finding("info", "route-open", f"{url.via}: {', '.join(steps)}, the database answers")
