"""Validate reports of findings against the published schemas of their formats."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from jsonschema import Draft7Validator
from lxml import etree

from tests import external_tools

#: What GitLab reads of an issue of Code Quality; its documentation and its parser require no more.
GITLAB_ISSUE = {
    "type": "object",
    "required": ["description", "check_name", "fingerprint", "severity", "location"],
    "additionalProperties": False,
    "properties": {
        "description": {"type": "string", "minLength": 1},
        "check_name": {"type": "string", "minLength": 1},
        "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
        "location": {
            "type": "object",
            "required": ["path", "lines"],
            "properties": {
                "path": {"type": "string", "pattern": "^[^/]"},
                "lines": {
                    "type": "object",
                    "required": ["begin"],
                    "properties": {"begin": {"type": "integer", "minimum": 1}},
                },
            },
        },
    },
}
_COMMAND = re.compile(r"::(error|warning|notice) ([^:\r\n]*)::([^\r\n]*)\n")


@cache
def _sarif_validator():
    return Draft7Validator(json.loads(external_tools.sarif_tools().schema.read_text(encoding="utf-8-sig")))


@cache
def _junit_schema():
    return etree.XMLSchema(etree.parse(external_tools.junit_schema()))


def read_sarif(text: str):
    """Return the only run of a valid document."""
    document = json.loads(text)
    assert [error.message for error in _sarif_validator().iter_errors(document)] == []
    (run,) = document["runs"]
    return run


def find_sarif_problems(file: Path, folder: Path) -> set[str]:
    """Return the codes of the errors and warnings of the validator, with the rules of GitHub."""
    report = folder / "validation.sarif"
    words = [external_tools.sarif_tools().validator, "validate", file, "--rule-kind", "Sarif;Ghas"]
    words += ["--level", "Error;Warning", "--output", report, "--log", "ForceOverwrite"]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    (run,) = json.loads(report.read_text(encoding="utf-8-sig"))["runs"]
    return {result["ruleId"] for result in run["results"] if result.get("level") in {"error", "warning"}}


def read_junit(text: str):
    """Return the root element of a valid document."""
    root = etree.fromstring(text.encode())
    _junit_schema().assertValid(root)
    return root


def read_gitlab(text: str):
    """Return the issues of a valid report."""
    issues = json.loads(text)
    for issue in issues:
        assert [error.message for error in Draft7Validator(GITLAB_ISSUE).iter_errors(issue)] == []
    assert len({issue["fingerprint"] for issue in issues}) == len(issues)
    return issues


def read_github(text: str):
    """Return the level, properties and message of each workflow command, decoded as the runner does."""
    commands = []
    for line in text.splitlines(keepends=True):
        match = _COMMAND.fullmatch(line)
        assert match, line
        properties = dict(pair.split("=", 1) for pair in match[2].split(","))
        decoded = {name: unquote(value) for name, value in properties.items()}
        commands.append((match[1], decoded, unquote(match[3])))
    return commands
