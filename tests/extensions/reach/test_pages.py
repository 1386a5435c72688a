"""The pages about routes: their commands run against hosts, containers and pods of the tests, and their configurations are valid."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests import servers
from tests.extensions.reach.test_init import COMPOSE, POSTGRESQL_PASSWORD
from tests.reach import images

ROOT = Path(__file__).parents[3]
PAGES = {
    name: (ROOT / f"docs/extensions/reach/reach-{name}.md").read_text()
    for name in ("by-ssh", "containers", "kubernetes")
}


def list_blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)


@pytest.fixture
def run_page(dbctl, tmp_path):
    """Run the commands of a page in order; each ``init`` begins a new folder, and names and addresses are replaced."""
    folders = [tmp_path]
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "dbctl").write_text(f'#!/bin/sh\nexec {sys.executable} -m dbctl "$@"\n')
    (programs / "dbctl").chmod(0o755)

    def run(page, replacements, files=None):
        commands = "".join(list_blocks(page, "sh")).splitlines()
        assert commands
        for command in commands:
            if command.startswith("dbctl init"):
                folders.append(tmp_path / str(len(folders)))
                folders[-1].mkdir()
                for name, text in (files or {}).items():
                    (folders[-1] / name).write_text(text)
            words = re.compile("|".join(map(re.escape, replacements)) or "(?!)")
            line = words.sub(lambda match: replacements[match[0]], command)
            environment = {
                "PATH": f"{programs}:{os.environ['PATH']}",
                "DBCTL_STATE": "off",
                "XDG_RUNTIME_DIR": str(dbctl.runtime),
            }
            result = subprocess.run(
                ["bash", "-c", line], check=False, capture_output=True, text=True, timeout=120, cwd=folders[-1],
                env=os.environ | environment,
            )  # fmt: skip
            assert result.returncode == 0, (line, result.stdout, result.stderr)

    return run


@pytest.fixture
def shop(podman):
    """Provide a container of PostgreSQL with the tables of an app, the service ``db`` of a project."""
    container = podman.postgresql(bridge=True)
    deploy(container)
    return container


def deploy(container):
    shapes = ROOT / "tests/shapes"
    for name in ("waqtor-deployed.sql", "waqtor-deployed-rows.sql"):
        words = ["psql", "-XqU", "shop", "-v", "ON_ERROR_STOP=1", "shopdb"]
        container.execute(*words, text=(shapes / name).read_text())


@pytest.mark.slow
def test_commands_of_the_page_about_ssh_work(run_page, ssh_hosts):
    with servers.postgresql_database(encoding="UTF8") as url, servers.mysql_database() as other:
        with closing(servers.connection(url)) as connection:
            connection.execute("create table t (id integer primary key)")
        hosts = f"Host db.example\n    Port {ssh_hosts.bastion.port}\n"
        ssh_hosts.config.write_text(hosts + ssh_hosts.config.read_text())
        ssh_hosts.known_hosts.write_text(ssh_hosts.bastion.host_key)
        port = url.port or 5432
        run_page(
            "by-ssh",
            {
                "postgresql://shop@10.0.0.5/shop": f"postgresql://{url.user}@127.0.0.1:{port}/{url.path}",
                "admin@db.example/shop": f"{url.user}@db.example:{port}/{url.path}",
                "mysql://shop@10.0.0.5/shop": f"mysql://{other.user}@127.0.0.1:{other.port or 3306}/{other.path}",
            },
        )


@pytest.mark.slow
def test_commands_of_the_page_about_containers_work(run_page, podman, ssh_hosts, shop):
    ssh_hosts.bastion.set_environment({"PATH": os.environ["PATH"], **podman.environment})
    project = shop.name.removesuffix("-db-1")
    web = podman.start(
        images.app(), volume="/data", project=project, bridge=True, service="web", variables={"DB_HOST": "db"}
    )
    files = {
        "compose.yaml": f"name: {project}\n" + COMPOSE % "${DB_PASSWORD}",
        ".env": f'DB_PASSWORD="{POSTGRESQL_PASSWORD}"\n',
    }
    names = {"shop-db": shop.name, "shop-web": web.name, "compose:shop/": f"compose:{project}/"}
    run_page("containers", names, files)


@pytest.mark.slow
def test_commands_of_the_page_about_kubernetes_work(run_page, podman, kubernetes):
    """The pod is a container, which the substitute for kubectl describes."""
    container = podman.postgresql(labels=kubernetes.labels("db-0", namespace="shop", app="db"))
    deploy(container)
    run_page("kubernetes", {})


@pytest.mark.parametrize("page", PAGES)
def test_configurations_of_the_page_are_valid(answer, tmp_path, monkeypatch, page):
    monkeypatch.chdir(tmp_path)
    for name in ("SHOP_PASSWORD", "POSTGRES_PASSWORD"):
        monkeypatch.setenv(name, "secret")
    for text in list_blocks(page, "toml"):
        head = "" if "profile =" in text else '[apps.shop]\nprofile = "plain"\n'
        tail = "" if ".databases]" in text else '[apps.shop.databases]\nmain = "postgresql://shop@db/shop"\n'
        (tmp_path / "dbctl.toml").write_text(f"{head}{text}\n{tail}")
        (tmp_path / "dbctl.toml").chmod(0o600)
        findings = answer("config", "validate", status=None)["data"]["findings"]
        # The container of the secret is not there.
        assert [entry for entry in findings if "secrets.POSTGRES_PASSWORD" not in entry["message"]] == []
