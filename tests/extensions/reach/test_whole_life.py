"""Every command on a database in a container without a published port, behind an SSH host."""

from __future__ import annotations

import os
from contextlib import closing

import pytest
from msgspec import structs

from dbctl.url import parse_url
from tests import servers
from tests.databases import PostgreSQL
from tests.scenarios.test_whole_life import folder, live, run  # noqa: F401 - fixtures

#: Commands that report settings of the server.
CHECKS = ("--app waqtor doctor", "--app waqtor status --check")


class Routed(PostgreSQL):
    """A database that the test reaches directly, and dbctl by a route."""

    def __init__(self, own, via):
        super().__init__(own)
        self.url = f"{structs.replace(own, host='127.0.0.1', password=None)}?via={via.replace(' ', '+')}"

    def destroy(self):
        with closing(servers.connection(structs.replace(self.own, path="postgres"))) as central:
            central.execute(f"drop database {self.own.path} with (force)")


@pytest.mark.needs_extension("demo")
@pytest.mark.slow
def test_every_command_behind_a_host_and_a_container(podman, ssh_hosts, folder, run, monkeypatch):  # noqa: F811 - fixtures
    container = podman.postgresql(bridge=True)
    ssh_hosts.bastion.set_environment({"PATH": os.environ["PATH"], **podman.environment})
    own = parse_url(f"postgresql://shop@{container.address}/shopdb")
    monkeypatch.setenv("PGPASSWORD", container.variables["POSTGRES_PASSWORD"])
    target = Routed(own, f"ssh:bastion docker:{container.name}")

    def run_or_report(line, expected):
        output = run(line, expected | {4} if line.startswith(CHECKS) else expected)
        if output["exit_code"] == 4:  # the server of the tests syncs nothing
            findings = output["data"]["findings"]
            assert {entry["code"] for entry in findings if entry["severity"] == "error"} == {"unsafe-setting"}
        return output

    live(target, "waqtor", "postgresql", "", folder, run_or_report)
