"""The substitute for ``kubectl``: what it reports of pods, and the commands that it runs in them."""

from __future__ import annotations

import json
import subprocess

import pytest

pytestmark = pytest.mark.slow


def run(*words, status=0, content=b""):
    """Run kubectl with an input and return its output, or its message."""
    result = subprocess.run(["kubectl", *words], check=False, capture_output=True, timeout=60, input=content)
    assert result.returncode == status, result.stderr
    return result.stderr.decode() if status else result.stdout


def test_pods_are_found_by_namespace_name_and_label(podman, kubernetes, tmp_path):
    labels = kubernetes.labels("db-0", namespace="shop", app="db")
    container = podman.app(tmp_path, labels=labels, bridge=True)
    podman.app(tmp_path, labels=kubernetes.labels("web-0", namespace="shop", app="web"))
    pod = json.loads(run("get", "pod", "db-0", "-n", "shop", "-o", "json"))
    assert (pod["metadata"]["name"], pod["metadata"]["labels"]["app"]) == ("db-0", "db")
    assert (pod["status"]["phase"], pod["status"]["podIP"]) == ("Running", container.address)
    for selector in (["-l", "app=db"], ["--field-selector", "metadata.name=db-0"]):
        assert run("--context=tests", "get", "pods", "--namespace", "shop", *selector) == b"pod/db-0\n"
    assert len(json.loads(run("get", "pods", "-n", "shop", "--output", "json"))["items"]) == 2
    assert json.loads(run("get", "pods", "-o", "json"))["items"] == []
    assert "(NotFound)" in run("get", "pod/db-0", status=1)
    assert "does not exist" in run("--context", "other", "get", "pods", status=1)
    container.stop()
    assert run("get", "pods", "-n", "shop", "--field-selector", "status.phase=Running") == b"pod/web-0\n"
    assert "completed pod" in run("exec", "-n", "shop", "db-0", "--", "true", status=1)


def test_commands_run_in_the_named_container(podman, kubernetes, tmp_path):
    for name in ("main", "sidecar"):
        podman.app(tmp_path, service=name, labels=kubernetes.labels("db-0", container=name))
    command = ["--", "sh", "-c", "cat; hostname >&2; exit 3"]
    content = b"\0\xff" * 70_000
    assert run("exec", "-i", "db-0", "-c", "sidecar", "--", "cat", content=content) == content
    assert run("exec", "db-0", "--", "cat", content=content) == b""
    assert "exit code 3" in run("exec", "-i", "db-0", "--container", "main", *command, status=3)
    assert "not valid for pod" in run("exec", "db-0", "-c", "third", *command, status=1)
    first, second = (run("exec", "db-0", "-c", name, "--", "hostname") for name in ("main", "sidecar"))
    assert first != second


def test_server_refuses(kubernetes):
    kubernetes.refuse("Error from server (Forbidden): pods is forbidden\n")
    assert "(Forbidden)" in run("get", "pods", status=1)
    kubernetes.refuse("")
    assert run("get", "pods") == b""
