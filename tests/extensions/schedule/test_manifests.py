"""Manifests are valid by the published schemas, and their commands run."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import subprocess
import sys
import sysconfig
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, validators

from dbctl.cli.main import main
from dbctl.errors.base import Exit
from dbctl.extensions.schedule.manifests import HOME_FOLDER, USER_ID, write_yaml
from tests import external_tools
from tests.extensions.schedule.test_units import HOSTILE, add_app
from tests.services import flashpoint_app

CONTAINER = Path(__file__).with_name("container.sh")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "app"
    flashpoint_app.create_valid_app(folder, "deployed")
    add_app(folder, HOSTILE, '[apps.NAME.schedule]\nbackup = "0 4 * * sat-7"\n')
    add_app(folder, "Ä" * 80)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def manifest(capsys):
    def run(*words):
        capsys.readouterr()
        assert main(["schedule", *words, "--all-apps"]) == 0
        return list(yaml.safe_load_all(capsys.readouterr().out))

    return run


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1.25.0", "v1.37.0"])
def test_kubernetes_accepts_cron_jobs(folder, manifest, version):
    schema = external_tools.kubernetes_schemas() / f"{version}-local-strict/cronjob-batch-v1.json"
    validator = create_validator(schema)
    jobs = manifest("kubernetes", "--image", "registry.example.org/dbctl:1", "--namespace", "shop")
    assert len(jobs) > 10
    for job in jobs:
        validator.validate(job)
    with pytest.raises(Exception, match="Additional properties"):
        validator.validate({**jobs[0], "spec": {**jobs[0]["spec"], "schedul": "x"}})


def create_validator(path):
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT7

    def retrieve(uri):
        return Resource.from_contents(json.loads((path.parent / uri.rpartition("/")[2]).read_text()), DRAFT7)

    schema = json.loads(path.read_text())
    return Draft7Validator(schema, registry=Registry(retrieve=retrieve))


def test_cron_jobs_have_unique_names_and_portable_schedules(folder, manifest):
    jobs = manifest("kubernetes")
    names = [job["metadata"]["name"] for job in jobs]
    assert len(names) == len(set(names))
    assert max(map(len, names)) <= 52
    (schedule,) = (
        job["spec"]["schedule"]
        for job in jobs
        if job["metadata"]["annotations"]["dbctl/app"] == HOSTILE and "-backup-" in job["metadata"]["name"]
    )
    assert schedule == "0 4 * * 0,6"


def test_command_in_container_names_the_app_and_no_path_of_this_machine(folder, manifest):
    for job in manifest("kubernetes"):
        (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        assert str(folder) not in json.dumps(job)
        app = job["metadata"]["annotations"]["dbctl/app"]
        assert container["args"][container["args"].index("--app") + 1] == app


def test_summary_in_container_includes_all_apps(folder, manifest):
    config = folder / "dbctl.toml"
    config.write_text(f'[notify.ntfy]\nurl = "http://localhost:9/topic"\n{config.read_text()}')
    (job,) = [job for job in manifest("kubernetes") if "summary" in job["metadata"]["name"]]
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["notify", "summary", "--report", "--quiet"]


@pytest.mark.slow
def test_compose_accepts_file(folder, manifest):
    schema = json.loads((external_tools.ci_schemas() / "compose-spec.json").read_text())
    (compose,) = manifest("compose", "--image", "registry.example.org/dbctl:1")
    validators.validator_for(schema)(schema).validate(compose)


def test_commands_of_compose_run(folder, manifest):
    (compose,) = manifest("compose")
    labels = compose["services"]["dbctl"]["labels"]
    commands = [text.replace("$$", "$") for name, text in labels.items() if name.endswith(".command")]
    assert len(commands) * 3 + 1 == len(labels)
    for command in commands:
        program, *words = shlex.split(command)
        if HOSTILE in words and words[:2] == ["backup", "create"]:
            assert (program, main(words)) == ("dbctl", 0)
            break
    else:
        pytest.fail("the job is missing")


def test_app_without_configuration_is_refused(tmp_path, monkeypatch, answer, capsys):
    flashpoint_app.create_app(tmp_path, "deployed")
    monkeypatch.chdir(tmp_path)
    for form in ("kubernetes", "compose"):
        words = ["schedule", form, "--profile", "flashpoint-web", "--url", "user=user.db"]
        assert main(words) == 2
        assert capsys.readouterr().out == ""


def test_hostile_namespace_is_refused(folder):
    assert main(["schedule", "kubernetes", "--namespace", "a\nb: c"]) == 2


VALUES = st.recursive(
    st.one_of(st.text(max_size=20), st.booleans(), st.integers(-9, 9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(min_size=1, max_size=9), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(min_size=1, max_size=9), VALUES, min_size=1, max_size=4))
def test_yaml_is_read_unchanged(value):
    assert yaml.safe_load(write_yaml(value)) == value


@pytest.fixture
def volumes(tmp_path, monkeypatch):
    """The folders of the configuration and of the data, which belong to the user of the image."""
    config, data = tmp_path / "config", tmp_path / "data"
    for place in (config, data):
        place.mkdir()
    with closing(sqlite3.connect(data / "blog.db")) as connection:
        connection.execute("create table posts (id integer primary key)")
    (config / "dbctl.toml").write_text(
        '[notify]\non = ["summary"]\nwebhook = { url = "http://localhost:9/hook" }\n'
        f'[apps.blog]\nprofile = "plain"\ndatabases = "{HOME_FOLDER}/blog.db"\n'
        f'[apps.blog.backup]\nrepository = "{HOME_FOLDER}/backups"\nkeep = {{ last = 2 }}\n'
    )
    for path in (data, data / "blog.db"):
        os.chown(path, USER_ID, USER_ID)
    monkeypatch.setenv("DBCTL_CONFIG", str(config / "dbctl.toml"))
    return config, data


def run_in_container(volumes, arguments):
    """Run dbctl with the variables, the volumes and the user of the manifests; return its exit code and its error output."""
    packages = sysconfig.get_path("purelib")
    folders = [*volumes, USER_ID, sys.base_prefix, packages, Path(__file__).parents[3]]
    done = subprocess.run(
        ["unshare", "--mount", "bash", CONTAINER, *map(str, folders), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount the volumes")
@pytest.mark.parametrize("kind", ["kubernetes", "compose"])
def test_commands_run_with_the_volumes_of_the_manifests(volumes, manifest, kind):
    documents = manifest(kind)
    if kind == "kubernetes":
        pods = [job["spec"]["jobTemplate"]["spec"]["template"]["spec"] for job in documents]
        commands = [pod["containers"][0]["args"] for pod in pods]
    else:
        labels = documents[0]["services"]["dbctl"]["labels"]
        commands = [shlex.split(text)[1:] for name, text in labels.items() if name.endswith(".command")]
    results = {" ".join(words[:2]): run_in_container(volumes, words) for words in commands}
    # No server receives the summary.
    status, errors = results.pop("notify summary")
    assert status == Exit.UNREACHABLE, errors
    assert len(results) == 5
    assert {name: result for name, result in results.items() if result[0]} == {}
    assert list((volumes[1] / "backups").rglob("manifest.json"))
    assert (volumes[1] / ".local/state/dbctl/events.sqlite").exists()
