"""Ask OSV for known vulnerabilities of the packages that dbctl installs: python -m tools.audit [URL]. Exit 1 if there are any."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

OSV_URL = "https://api.osv.dev/v1/querybatch"
TIMEOUT_SECONDS = 30


def list_packages() -> Iterator[metadata.Distribution]:
    """Yield the distributions that dbctl installs on this machine with all extras."""
    extras = metadata.metadata("dbctl").get_all("Provides-Extra") or []
    pending, seen = [Requirement(f"dbctl[{','.join(extras)}]")], dict[str, set[str]]()
    while pending:
        requirement = pending.pop()
        package = metadata.distribution(requirement.name)
        if package.name not in seen:
            seen[package.name] = set()
            if package.name != "dbctl":
                yield package
        for extra in {"", *requirement.extras} - seen[package.name]:
            seen[package.name].add(extra)
            needed = map(Requirement, package.requires or ())
            pending += [
                inner for inner in needed if inner.marker is None or inner.marker.evaluate({"extra": extra})
            ]


def find_vulnerabilities(url: str) -> Iterator[str]:
    """Yield each package with the ids of its vulnerabilities; raises OSError or ValueError if the index does not answer."""
    packages = sorted(list_packages(), key=lambda package: package.name)
    queries = [
        {"version": package.version, "package": {"name": package.name, "ecosystem": "PyPI"}}
        for package in packages
    ]
    content = json.dumps({"queries": queries}).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"})  # noqa: S310 - of the caller
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
        results = json.load(response)["results"]
    for package, result in zip(packages, results, strict=True):
        if ids := [entry["id"] for entry in result.get("vulns", ())]:
            yield f"{package.name} {package.version}: {', '.join(ids)}"


def main() -> int:
    """Print the known vulnerabilities; without an answer of the index, state that, and succeed."""
    url = sys.argv[1] if len(sys.argv) > 1 else OSV_URL
    try:
        lines = list(find_vulnerabilities(url))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"not checked for vulnerabilities: {url}: {error}")  # noqa: T201
        return 0
    print("\n".join(lines) or "no known vulnerabilities")  # noqa: T201
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
