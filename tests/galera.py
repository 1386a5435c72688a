"""A Galera cluster of three MariaDB nodes on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pymysql

from dbctl.url import Url, parse_url
from tests import servers

PROVIDERS = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so")
#: Nodes detect a silent node after one second instead of five, and form no cluster with the state of an earlier one.
PROVIDER_OPTIONS = (
    "evs.suspect_timeout=PT1S",
    "evs.inactive_timeout=PT2S",
    "evs.inactive_check_period=PT0.3S",
    "evs.keepalive_period=PT0.3S",
    "evs.install_timeout=PT2S",
    "pc.recovery=false",
    "gcache.size=16M",
)
SMALL = ("--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--performance-schema=OFF")
MAX_SECONDS = 60


class Node:
    """One server of a cluster."""

    def __init__(self, place: Path, name: str) -> None:
        self.place, self.name = place / name, name
        self.port, self.group_port, self._state_port, self._increment_port = (
            servers.free_port() for _ in range(4)
        )
        self.url = parse_url(f"mysql://root@127.0.0.1:{self.port}/mysql")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str], provider: str, addresses: str, *options: str) -> None:
        own_options = [
            f"gmcast.listen_addr=tcp://127.0.0.1:{self.group_port}",
            f"ist.recv_addr=127.0.0.1:{self._increment_port}",
        ]
        settings = [
            *command,
            f"--datadir={self.place / 'data'}",
            f"--tmpdir={self.place}",
            f"--socket={self.place / 'socket'}",
            f"--pid-file={self.place / 'pid'}",
            f"--port={self.port}",
            f"--wsrep-provider={provider}",
            f"--wsrep-node-name={self.name}",
            f"--wsrep-node-address=127.0.0.1:{self.group_port}",
            f"--wsrep-sst-receive-address=127.0.0.1:{self._state_port}",
            f"--wsrep-cluster-address={addresses}",
            f"--wsrep-provider-options={';'.join([*own_options, *PROVIDER_OPTIONS])}",
            *options,
        ]
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(settings, stdout=log, stderr=log, start_new_session=True)

    def status(self) -> dict[str, str]:
        """Return the state of the node; empty if it accepts no connection."""
        try:
            with closing(servers.mysql_connection(self.url)) as connection, connection.cursor() as cursor:
                cursor.execute("show status like 'wsrep%'")
                return dict(cursor.fetchall())
        except pymysql.Error:
            return {}

    def wait_for(self, **expected: str) -> None:
        """Wait for values of the state, such as ``wsrep_ready="ON"``."""
        deadline = time.monotonic() + MAX_SECONDS
        while not expected.items() <= (status := self.status()).items():
            assert self.process is not None
            assert self.process.poll() is None, (self.place / "log").read_text(errors="replace")[-4000:]
            assert time.monotonic() < deadline, {name: status.get(name) for name in expected}
            time.sleep(0.1)

    def send_signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End the server as a power failure would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=30)
            self.process = None


class Cluster:
    """Three nodes; ``root`` has all privileges and no password."""

    def __init__(self, place: Path, provider: str, prepare: Callable[[Sequence[Node]], None]) -> None:
        server, install = servers._mariadb_programs("for a cluster")
        as_user = []
        if os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(place, "mysql", "mysql")
            as_user = ["--user=mysql"]
        base = ["--no-defaults", *as_user, "--debug-no-sync"]
        self.nodes = [Node(place, f"n{number}") for number in (1, 2, 3)]
        self._provider = provider
        self._addresses = "gcomm://" + ",".join(f"127.0.0.1:{node.group_port}" for node in self.nodes)
        for node in self.nodes:
            node.place.mkdir()
        prepare(self.nodes)
        for node in self.nodes:
            if as_user:
                shutil.chown(node.place, "mysql", "mysql")
        first = self.nodes[0].place

        def create(data: Path) -> None:
            command = [install[0], *base, f"--tmpdir={first}", f"--datadir={data}", *install[1:]]
            subprocess.run(command, check=True, capture_output=True)

        servers.create_data(first / "data", create, install)
        self._command = [
            server,
            *base,
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--character-set-server=utf8mb4",
            "--innodb-flush-log-at-trx-commit=0",
            *SMALL,
            "--binlog-format=ROW",
            "--innodb-autoinc-lock-mode=2",
            "--wsrep-on=ON",
            "--wsrep-cluster-name=dbctl-tests",
            "--wsrep-sst-method=rsync",
        ]

    def start(self) -> None:
        for number, node in enumerate(self.nodes):
            if number:  # its data is a copy of another node
                shutil.rmtree(node.place / "data", ignore_errors=True)
                (node.place / "data").mkdir()
                shutil.copystat(self.nodes[0].place / "data", node.place / "data")
                owner = node.place.stat()
                os.chown(node.place / "data", owner.st_uid, owner.st_gid)
            options = [] if number else ["--wsrep-new-cluster"]
            node.start(self._command, self._provider, self._addresses, *options)
            if not number:
                node.wait_for(wsrep_ready="ON")
        self.wait_until_complete()

    def restart(self, node: Node) -> None:
        """Start a node that was killed, and wait until it has the changes of the others."""
        node.start(self._command, self._provider, self._addresses)
        self.wait_until_complete()

    def wait_until_complete(self) -> None:
        for node in self.nodes:
            node.wait_for(wsrep_ready="ON", wsrep_cluster_size="3", wsrep_local_state_comment="Synced")

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()


def node_url(node: Node, database: str) -> Url:
    """Return the URL of a database on one node."""
    return parse_url(f"mysql://root@127.0.0.1:{node.port}/{database}")


@contextmanager
def start_cluster(prepare: Callable[[Sequence[Node]], None] = lambda _nodes: None) -> Iterator[Cluster]:
    """Yield a running cluster; without MariaDB and Galera, skip the test, or fail in CI.

    ``prepare`` is called with the nodes, whose folders are still empty.
    """
    provider = next((path for path in PROVIDERS if Path(path).exists()), None)
    if provider is None:
        servers.skip_or_fail(f"no Galera ({PROVIDERS[0]}; Debian package galera-4)")
    with ExitStack() as stack:
        yield _start_with_retries(stack, provider, prepare)


def _start_with_retries(
    stack: ExitStack, provider: str, prepare: Callable[[Sequence[Node]], None]
) -> Cluster:
    """Return a running cluster, which ``stack`` removes; another process may take a free port before a node does."""
    for is_last in (False, False, True):
        with ExitStack() as attempt:
            place = Path(tempfile.mkdtemp(prefix="dbctl-galera-", dir=servers.data_folder()))
            attempt.callback(shutil.rmtree, place, ignore_errors=True)
            cluster = Cluster(place, provider, prepare)
            attempt.callback(cluster.stop)
            try:
                cluster.start()
            except AssertionError:
                if is_last:
                    raise
                continue
            stack.callback(attempt.pop_all().close)
            return cluster
    raise AssertionError
