"""A substitute for ``kubectl`` with a cluster: ``kubectl.py FOLDER get|exec …`` regards containers of podman as pods.

A Kubernetes server needs images and more of a machine than tests have. What the tests need of ``kubectl`` is the form of its answers,
and a command in a container with binary input and output. This substitutes both:

* ``get pods``, ``get pod NAME`` and ``get pod/NAME``, with ``-n``, ``-l KEY=VALUE,…``, ``--field-selector metadata.name=NAME`` and ``-o json|name``;
* ``exec [-i] POD [-c CONTAINER] -- COMMAND``, with the exit code of the command.

A container belongs to the pod of its labels ``io.kubernetes.pod.namespace``, ``io.kubernetes.pod.name`` and
``io.kubernetes.container.name``, which kubelet also sets; its other labels are those of the pod. The containers of a pod share no
network. The only context is ``tests``. A file ``error`` in FOLDER contains the answer of a server that refuses everything. What this
does not show: how ``kubectl`` connects to a server and logs in, its versions, and how it ends when the connection to the server is lost.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

CONTEXT = "tests"
NAMESPACE, POD, CONTAINER = (
    f"io.kubernetes.{name}" for name in ("pod.namespace", "pod.name", "container.name")
)
#: The phase of a pod by the state of its container; any other one: ``Running``.
PHASES = {"created": "Pending", "exited": "Succeeded"}


def fail(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(1)


def run_podman(*words: str) -> Any:
    """Return the JSON output of podman."""
    result = subprocess.run(["podman", *words], check=True, stdout=subprocess.PIPE)
    return json.loads(result.stdout)


def read_pods(namespace: str) -> list[dict[str, Any]]:
    """Return the pods of a namespace, ordered by name, as a server describes them."""
    listed = run_podman("ps", "--all", "--filter", f"label={NAMESPACE}={namespace}", "--format", "json")
    ids = [container["Id"] for container in listed]
    pods = dict[str, list[dict[str, Any]]]()
    for container in run_podman("container", "inspect", *ids) if ids else []:
        pods.setdefault(container["Config"]["Labels"][POD], []).append(container)
    return [describe_pod(namespace, name, containers) for name, containers in sorted(pods.items())]


def describe_pod(namespace: str, name: str, containers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = containers[0]
    networks = first["NetworkSettings"].get("Networks", {}).values()
    phase = PHASES.get(first["State"]["Status"], "Running")
    labels = {
        key: value
        for key, value in first["Config"]["Labels"].items()
        if key not in {NAMESPACE, POD, CONTAINER}
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": first["Id"][:32],
            "labels": labels,
            "creationTimestamp": first["Created"],
        },
        "spec": {
            "containers": [
                {
                    "name": container["Config"]["Labels"][CONTAINER],
                    "image": container["ImageName"],
                    "env": [
                        {"name": name, "value": value}
                        for name, _, value in (text.partition("=") for text in container["Config"]["Env"])
                    ],
                }
                for container in containers
            ]
        },
        "status": {
            "phase": phase,
            "podIP": next((network["IPAddress"] for network in networks), ""),
            "containerStatuses": [
                {
                    "name": container["Config"]["Labels"][CONTAINER],
                    "containerID": f"podman://{container['Id']}",
                    "ready": container["State"]["Running"],
                }
                for container in containers
            ],
        },
    }


def find_pod(namespace: str, name: str) -> dict[str, Any]:
    name = name.removeprefix("pod/").removeprefix("pods/")
    for pod in read_pods(namespace):
        if pod["metadata"]["name"] == name:
            return pod
    fail(f'Error from server (NotFound): pods "{name}" not found')


def get(options: argparse.Namespace, kind: str, names: Sequence[str]) -> None:
    kind, _, name = kind.partition("/")
    if kind not in {"pod", "pods", "po"}:
        fail(f'error: the server doesn\'t have a resource type "{kind}"')
    if name or names:
        pods = [find_pod(options.namespace, name) for name in (name, *names) if name]
    else:
        pods = [pod for pod in read_pods(options.namespace) if matches(pod, options)]
    if options.output == "name":
        print("".join(f"pod/{pod['metadata']['name']}\n" for pod in pods), end="")
    elif len(pods) == 1 and (name or names):
        print(json.dumps(pods[0], indent=4))
    else:
        print(json.dumps({"apiVersion": "v1", "items": pods, "kind": "List", "metadata": {}}, indent=4))


def matches(pod: Mapping[str, Any], options: argparse.Namespace) -> bool:
    fields = {"metadata.name": pod["metadata"]["name"], "status.phase": pod["status"]["phase"]}
    return all(
        values.get(key) == value
        for values, selector in ((pod["metadata"]["labels"], options.selector), (fields, options.fields))
        for key, _, value in (part.partition("=") for part in selector.split(",") if part)
    )


def execute(options: argparse.Namespace, pod_name: str, command: Sequence[str]) -> int:
    pod = find_pod(options.namespace, pod_name)
    if pod["status"]["phase"] != "Running":
        phase = pod["status"]["phase"]
        fail(f"error: cannot exec into a container in a completed pod; current phase is {phase}")
    ids = {status["name"]: status["containerID"] for status in pod["status"]["containerStatuses"]}
    name = options.container or next(iter(ids))
    if name not in ids:
        fail(
            f"Error from server (BadRequest): container {name} is not valid for pod {pod['metadata']['name']}"
        )
    if len(ids) > 1 and not options.container:
        print(f'Defaulted container "{name}" out of: {", ".join(ids)}', file=sys.stderr)
    interactive = ["--interactive"] if options.stdin else []
    process = subprocess.Popen(
        ["podman", "exec", *interactive, ids[name].removeprefix("podman://"), *command],
        stdin=None if options.stdin else subprocess.DEVNULL,
    )
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: process.send_signal(number))
    status = process.wait()
    if status:
        print(f"command terminated with exit code {status}", file=sys.stderr)
    return status if status >= 0 else 1


def main(folder: Path, words: Sequence[str]) -> int:
    if (folder / "error").exists():
        fail((folder / "error").read_text())
    separator = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(prog="kubectl", allow_abbrev=False)
    parser.add_argument("verb", choices=["get", "exec"])
    parser.add_argument("object")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--context", default=CONTEXT)
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("-l", "--selector", default="")
    parser.add_argument("--field-selector", dest="fields", default="")
    parser.add_argument("-o", "--output", choices=["json", "name"], default="name")
    parser.add_argument("-c", "--container", default="")
    parser.add_argument("-i", "--stdin", action="store_true")
    options = parser.parse_intermixed_args(words[:separator])
    if options.context != CONTEXT:
        fail(f'error: context "{options.context}" does not exist')
    if options.verb == "get":
        get(options, options.object, options.names)
        return 0
    return execute(options, options.object, words[separator + 1 :])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
