"""No password is visible in the arguments of a process, a log, the journal and the support archive of commands through routes."""

from __future__ import annotations

import tarfile
from contextlib import closing
from urllib.parse import quote

import pytest
from msgspec import structs

from dbctl.model import Secret
from tests import servers
from tests.extensions.reach.processes import wait_until_empty

pytestmark = pytest.mark.slow
SECRET = "m4rked;s3cret pass"


@pytest.fixture(params=["postgresql", "mysql"])
def url(request):
    """Provide a database whose address has the password; the PostgreSQL server of tests accepts any."""
    create = (
        servers.postgresql_database(encoding="UTF8")
        if request.param == "postgresql"
        else servers.mysql_database()
    )
    connect = servers.connection if request.param == "postgresql" else servers.mysql_connection
    with create as url, closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("create table marked (id integer primary key, name varchar(20))")
        cursor.execute("insert into marked values (1, 'one')")
        user = url.user
        if request.param == "mysql":
            user = url.path
            cursor.execute(f"create user '{user}'@'%' identified by '{SECRET}'")
            cursor.execute(f"grant all on *.* to '{user}'@'%'")
        yield structs.replace(url, user=user, password=Secret(SECRET))
        if request.param == "mysql":
            cursor.execute(f"drop user '{user}'@'%'")


def test_password_is_in_no_argument_log_and_archive(dbctl, ssh_hosts, tmp_path, url, read_arguments):
    address = servers.text(url).replace(quote(SECRET, safe=""), "${MARKED}")
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.shop]\nprofile = "plain"\nvia = "ssh:bastion"\ndatabases = "{address}"\nbackup.repository = "backups"\n'
    )
    (tmp_path / "dbctl.toml").chmod(0o600)
    state = tmp_path / "state"
    environment = {"MARKED": SECRET, "DBCTL_STATE": str(state)}
    outputs = []
    for words in (
        ("data", "set", "marked", "1", "name=uno", "--yes", "--verbose"),
        ("backup", "create", "--verbose"),
        ("restore", "apply", "latest", "--yes", "--dry-run"),
        ("doctor",),
        ("runs", "list", "-o", "json"),
        ("support", "--to", "support.tar.gz"),
    ):
        result = dbctl(*words, environment=environment)
        outputs += [result.stdout, result.stderr]
    ssh_hosts.bastion.stop()
    result = dbctl("data", "rows", "marked", "--verbose", status=10, environment=environment)
    outputs += [result.stdout, result.stderr]
    wait_until_empty(dbctl.runtime)
    arguments = read_arguments()
    assert any(b"dbctl-route" in text for text in arguments)
    with tarfile.open(tmp_path / "support.tar.gz") as archive:
        texts = [file.read() for member in archive if (file := archive.extractfile(member))]
    assert not [text for text in texts if b"bastion" in text]
    texts += [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    texts += [output.encode() for output in outputs]
    texts += arguments
    assert not [text for text in texts if SECRET.encode() in text or quote(SECRET).encode() in text]
