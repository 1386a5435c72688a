"""Manifests of jobs for Kubernetes (CronJobs) and Compose (labels of the scheduler Ofelia)."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from dbctl.errors.usage import UsageError
from dbctl.extensions.schedule.jobs import PlannedJob
from dbctl.model import Struct

#: The places in the image of dbctl.
CONFIG_FOLDER, HOME_FOLDER, USER_ID = "/etc/dbctl", "/var/lib/dbctl", 10001
#: Characters of the name of a CronJob; Kubernetes appends 11 for its jobs.
_LONGEST_NAME = 52
#: The beginning of the name of a type in YAML.
_TAG = "tag:yaml.org,2002:"
#: The name of the secrets, the volume claim and the service that the manifests expect.
CONFIG_SECRET, VARIABLES_SECRET, CLAIM, SCHEDULER = (
    "dbctl-config",
    "dbctl-variables",
    "dbctl-data",
    "dbctl-scheduler",
)


class Manifest(Struct, frozen=True, kw_only=True):
    """A file for another program."""

    apps: Sequence[str]
    jobs: int
    text: str  #: YAML


def write_kubernetes(jobs: Sequence[PlannedJob], *, image: str, namespace: str) -> str:
    """Return one CronJob for each job, as YAML documents."""
    manifests = (_create_cron_job(job, image, namespace) for job in jobs)
    return "".join(f"---\n{write_yaml(manifest)}" for manifest in manifests)


def write_compose(jobs: Sequence[PlannedJob], *, image: str, scheduler: str) -> str:
    """Return a Compose file: a service with dbctl, and a scheduler that runs the jobs in it."""
    labels = {"ofelia.enabled": "true"}
    for job in jobs:
        prefix = f"ofelia.job-exec.{name_job(job)}"
        labels[f"{prefix}.schedule"] = f"0 {job.schedule}"
        labels[f"{prefix}.command"] = shlex.join(["dbctl", *_list_arguments(job)])
        labels[f"{prefix}.no-overlap"] = "true"
    dbctl = {
        "image": image,
        "entrypoint": ["sleep", "infinity"],
        "init": True,
        "restart": "unless-stopped",
        "labels": {name: text.replace("$", "$$") for name, text in labels.items()},
        "volumes": [f"./dbctl:{CONFIG_FOLDER}:ro", f"{CLAIM}:{HOME_FOLDER}"],
    }
    service = {
        "image": scheduler,
        "command": ["daemon", "--docker"],
        "restart": "unless-stopped",
        "depends_on": ["dbctl"],
        "volumes": ["/var/run/docker.sock:/var/run/docker.sock:ro"],
    }
    return write_yaml({"services": {"dbctl": dbctl, SCHEDULER: service}, "volumes": {CLAIM: {}}})


def name_job(job: PlannedJob) -> str:
    """Return a name of lower-case letters, digits and hyphens; different jobs have different names."""
    text = "-".join(part for part in ("dbctl", job.name, job.app, job.target) if part)
    name = re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
    if name == text and len(name) <= _LONGEST_NAME:
        return name
    key = f"{job.name}\0{job.app}\0{job.target}".encode(errors="surrogateescape")
    digest = hashlib.sha256(key).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - len(digest) - 1].rstrip('-')}-{digest}"


def _list_arguments(job: PlannedJob) -> Sequence[str]:
    """Return the arguments in a container, in which ``DBCTL_CONFIG`` names the configuration.

    Raises:
        UsageError: the options describe an app without a configuration.
    """
    if "--config" not in job.selection:
        raise UsageError(detail="a container requires a configuration; --profile and --url do not apply")
    selection = [] if job.is_for_all_apps else ["--app", job.app]
    return [*job.arguments, *selection, *job.confirmation, "--quiet"]


def _create_cron_job(job: PlannedJob, image: str, namespace: str) -> Mapping[str, Any]:
    name = name_job(job)
    labels = {"app.kubernetes.io/name": "dbctl", "app.kubernetes.io/component": job.name}
    container = {
        "name": "dbctl",
        "image": image,
        "args": list(_list_arguments(job)),
        "envFrom": [{"secretRef": {"name": VARIABLES_SECRET, "optional": True}}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            {"name": "data", "mountPath": HOME_FOLDER},
            {"name": "temporary", "mountPath": "/tmp"},  # noqa: S108 - in the container
        ],
    }
    pod = {
        "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "config", "secret": {"secretName": CONFIG_SECRET}},
            {"name": "data", "persistentVolumeClaim": {"claimName": CLAIM}},
            {"name": "temporary", "emptyDir": {}},
        ],
    }
    metadata: dict[str, Any] = {"name": name, "labels": labels, "annotations": {"dbctl/app": job.app}}
    if namespace:
        metadata["namespace"] = namespace
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": metadata,
        "spec": {
            "schedule": job.schedule,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": pod}}
            },
        },
    }


def write_yaml(value: Mapping[str, Any]) -> str:
    """Return a mapping as YAML, with texts in quotes, so that none has another type for a reader with other rules."""
    text: str = yaml.serialize(_create_node(value), Dumper=yaml.SafeDumper, width=math.inf)
    return text


def _create_node(value: Any) -> yaml.Node:
    if isinstance(value, Mapping):
        entries = [(yaml.ScalarNode(f"{_TAG}str", key), _create_node(item)) for key, item in value.items()]
        return yaml.MappingNode(f"{_TAG}map", entries)
    if isinstance(value, list):
        return yaml.SequenceNode(f"{_TAG}seq", [_create_node(item) for item in value])
    text, style = (value, '"') if isinstance(value, str) else (json.dumps(value), None)
    return yaml.ScalarNode(f"{_TAG}{type(value).__name__}", text, style=style)
