"""A Ceph cluster with one node in memory and its S3 gateway; ``python -m tests.ceph FOLDER PORT KEY SECRET`` runs it until SIGTERM."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

from tests import servers

#: The programs of the Debian packages ceph-mon, ceph-osd and radosgw.
PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
#: Time limit of each administrative command.
SECONDS = 60

#: Without ``update on start = false``, the object server sometimes ends: it sends a command before it has the id of the cluster.
SETTINGS = """
[global]
fsid = {cluster}
mon host = v1:127.0.0.1:{port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
keyring = {folder}/keyring
run dir = {folder}
log file = {folder}/$name.log
admin socket = {folder}/$name.asok
pid file = {folder}/$name.pid
crash dir = {folder}
mon data = {folder}/mon
mon data avail warn = 1
mon data avail crit = 1
mon allow pool size one = true
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd crush chooseleaf type = 0
osd class update on start = false
osd crush update on start = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{gateway_port}
"""


def is_installed() -> bool:
    return all(map(shutil.which, PROGRAMS))


def run(folder: Path, gateway_port: int, key: str, secret: str) -> None:
    """Start a monitor, an object server and the gateway with one user; wait until a process ends, then end the others."""
    cluster, disk = str(uuid.uuid4()), str(uuid.uuid4())
    port = servers.free_port()
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    (folder / "keyring").touch()
    settings = folder / "ceph.conf"
    settings.write_text(SETTINGS.format(cluster=cluster, port=port, folder=folder, gateway_port=gateway_port))
    os.environ["CEPH_CONF"] = str(settings)
    services = list[subprocess.Popen[bytes]]()

    def call(*words: str) -> None:
        subprocess.run(words, check=True, timeout=SECONDS, stdout=subprocess.DEVNULL)

    def serve(*words: str) -> None:
        services.append(subprocess.Popen([*words, "-f"], stdout=subprocess.DEVNULL))

    def end(*_arguments: object) -> None:
        sys.exit()

    signal.signal(signal.SIGTERM, end)
    monitors = str(folder / "monmap")
    try:
        call("monmaptool", "--create", "--fsid", cluster, "--addv", "a", f"[v1:127.0.0.1:{port}]", monitors)
        call("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitors, "--fsid", cluster)
        serve("ceph-mon", "-i", "a")
        call("ceph", "osd", "new", disk, "0")
        call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        call("ceph", "osd", "crush", "add", "osd.0", "1", "root=default")
        serve("ceph-osd", "-i", "0")
        user = ("--uid", "tests", "--display-name", "tests")
        call("radosgw-admin", "user", "create", *user, "--access-key", key, "--secret-key", secret)
        serve("radosgw", "-n", "client.rgw")
        while all(process.poll() is None for process in services):
            time.sleep(0.2)
    finally:
        for process in services:
            process.kill()
        for process in services:
            process.wait()


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
