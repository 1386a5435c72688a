"""Findings as workflow commands of GitHub, Code Quality of GitLab, JUnit and SARIF."""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from contextlib import chdir, redirect_stdout
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.errors.usage import AppMissingError
from dbctl.model import Finding, Findings
from dbctl.render import envelope
from dbctl.render import result as result_output
from dbctl.render.streams import Format, OutputOptions
from dbctl.render.text import escape
from tests.render import validators

FORMATS = [output for output in Format if output.is_report]
READERS = {
    Format.GITHUB: validators.read_github,
    Format.GITLAB: validators.read_gitlab,
    Format.JUNIT: validators.read_junit,
    Format.SARIF: validators.read_sarif,
}
#: Text that no format may pass on unchanged.
HOSTILE = "a%0A::error::b\r\n::stop-commands::c\x1b[31m\x00\x85\u2028\u202e\ud800\ufffe]]><b>&amp;,: [x](https://e.org)"


def write(findings, output, *, config=None, status=0):
    """Return a report of findings."""
    command_output = result_output.CommandOutput(
        command=("integrity", "check"),
        result=Findings(checked=len(findings), findings=findings),
        status=status,
        target="shop/main",
        find_config=lambda: config,
    )
    with redirect_stdout(StringIO()) as text:
        result_output.show(command_output, OutputOptions(format=output))
    return text.getvalue()


def finding(severity="error", code="orphans", message="3 rows", **fields):
    return Finding("shop/main", severity, code, message, **fields)


def count(output, document):
    """Return the number of findings in a document."""
    if output is Format.SARIF:
        return len(document["results"])
    return len(document.findall(".//testcase")) if output is Format.JUNIT else len(document)


@pytest.mark.parametrize("output", FORMATS)
@given(
    texts=st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=1, max_size=4),
    severity=st.sampled_from(["info", "warning", "error"]),
)
def test_any_text_gives_a_valid_document(output, texts, severity):
    findings = [Finding(target, severity, "code", text, hint) for target, text, hint in texts]
    findings.append(
        Finding(HOSTILE, severity, "code", HOSTILE, HOSTILE, file=f"/{HOSTILE}".replace("\0", ""), line=3)
    )
    text = write(findings, output)
    assert count(output, READERS[output](text)) == len(findings)
    lines = text.split("\n")
    assert lines == [escape(line) for line in lines]


@pytest.mark.parametrize("output", FORMATS)
def test_check_without_findings_gives_a_valid_document(output):
    document = READERS[output](write([], output))
    assert count(output, document) == (output is Format.JUNIT)


@pytest.mark.parametrize("output", FORMATS)
def test_error_of_a_command_gives_a_valid_document(output, capfd):
    assert envelope.show(AppMissingError(name=HOSTILE, file="x", names="y"), output, ("status",)) == 5
    sys.stdout.flush()
    captured = capfd.readouterr()
    document = READERS[output](captured.out)
    if output is Format.SARIF:
        (invocation,) = document["invocations"]
        assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 5)
        assert invocation["toolExecutionNotifications"][0]["descriptor"]["id"] == "app-missing"
    elif output is Format.JUNIT:
        assert document.find(".//error").get("type") == "app-missing"
        assert document.get("errors") == "1"
    else:
        assert count(output, document) == 1
    assert "hint: " in captured.err


def test_workflow_commands_name_file_line_and_title(tmp_path):
    (tmp_path / ".git").mkdir()
    file = tmp_path / "db/a,b:c%.sql"
    with chdir("/"):
        (command,) = validators.read_github(
            write(
                [finding("warning", message="100% of a,b:c", hint="fix it", file=str(file), line=7)],
                Format.GITHUB,
            )
        )
    assert command == (
        "warning",
        {"file": "db/a,b:c%.sql", "line": "7", "title": "dbctl integrity check: orphans"},
        "shop/main: 100% of a,b:c\nfix it",
    )


def test_line_of_the_app_in_the_configuration_is_the_location_of_a_finding_without_a_file(tmp_path):
    config = tmp_path / "dbctl.toml"
    config.write_text("# apps\n\n[apps.shop]\ndatabases.main = 'a.db'\n")
    (tmp_path / ".git").mkdir()
    (issue,) = validators.read_gitlab(write([finding()], Format.GITLAB, config=config))
    assert issue["location"] == {"path": "dbctl.toml", "lines": {"begin": 3}}


def test_files_outside_of_the_repository_are_no_location(tmp_path):
    (tmp_path / "repository/.git").mkdir(parents=True)
    with chdir(tmp_path / "repository"):
        (command,) = validators.read_github(write([finding(file=str(tmp_path / "other.sql"))], Format.GITHUB))
    assert "file" not in command[1]


def test_sarif_has_locations_rules_and_levels(tmp_path):
    (tmp_path / ".git").mkdir()
    file = tmp_path / "db/übung 1%.sql"
    findings = [
        finding("info"),
        finding("warning", "drops-table", file=str(file), line=4),
        finding("error", hint="dbctl integrity repair"),
    ]
    run = validators.read_sarif(write(findings, Format.SARIF, status=4))
    assert [result["level"] for result in run["results"]] == ["error", "warning", "note"]
    rules = run["tool"]["driver"]["rules"]
    assert [rules[result["ruleIndex"]]["id"] for result in run["results"]] == [
        "orphans",
        "drops-table",
        "orphans",
    ]
    (location,) = run["results"][1]["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "db/%C3%BCbung%201%25.sql", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 4},
    }
    (location,) = run["results"][0]["locations"]
    assert location["logicalLocations"] == [{"name": "main", "fullyQualifiedName": "shop/main"}]
    assert run["invocations"][0]["exitCode"] == 4


def test_fingerprints_ignore_lines_and_counts_and_are_unique(tmp_path):
    before = [finding(message="a.sql:3: 5 rows", line=3), finding(message="a.sql:3: 5 rows", line=3)]
    after = [finding(message="a.sql:9: 7 rows", line=9), finding(message="a.sql:9: 8 rows", line=9)]
    prints = [
        [issue["fingerprint"] for issue in validators.read_gitlab(write(list_, Format.GITLAB))]
        for list_ in (before, after)
    ]
    assert prints[0] == prints[1]
    (other,) = validators.read_gitlab(write([finding(message="a.sql:3: 5 columns")], Format.GITLAB))
    assert other["fingerprint"] not in prints[0]


def test_junit_counts_errors_as_failures_and_other_findings_as_passed():
    findings = [finding(), finding(), finding("warning"), Finding("shop/other", "info", "x", "y")]
    root = validators.read_junit(write(findings, Format.JUNIT, status=4))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "2", "0")
    assert [suite.get("name") for suite in root] == ["shop/main", "shop/other"]
    names = [case.get("name") for case in root.iter("testcase")]
    assert len(set(names)) == 4
    assert len(root.findall(".//failure")) == 2


def test_check_of_nothing_is_a_skipped_test_case():
    root = validators.read_junit(write([], Format.JUNIT))
    assert root.find(".//skipped") is not None


@pytest.mark.slow
@pytest.mark.parametrize("output", FORMATS)
def test_thirty_thousand_findings(output, capsys):
    findings = [
        Finding(
            f"app{number % 7}/main",
            ("info", "warning", "error")[number % 3],
            "orphans",
            f"table {number}: {HOSTILE}",
        )
        for number in range(30_000)
    ]
    text = write(findings, output, status=4)
    assert len(gzip.compress(text.encode())) < 3_000_000  # GitHub accepts 10 MB
    if output is not Format.SARIF:
        assert text.count("orphans") >= 30_000
        return
    run = json.loads(text)["runs"][0]
    assert len(run["results"]) == 25_000
    levels = Counter(result["level"] for result in run["results"])
    assert levels == {"error": 10_000, "warning": 10_000, "note": 5_000}
    (notification,) = run["invocations"][0]["toolExecutionNotifications"]
    assert "5000 of 30000" in notification["message"]["text"]
    assert "5000 of 30000" in capsys.readouterr().err


@pytest.mark.slow
def test_validator_of_sarif_with_the_rules_of_github_reports_nothing(tmp_path):
    (tmp_path / ".git").mkdir()
    config = tmp_path / "dbctl.toml"
    config.write_text("[apps.shop]\n")
    file = tmp_path / "report.sarif"
    findings = [
        finding(),
        finding("warning", "x", HOSTILE, hint=HOSTILE, file=str(tmp_path / "a b.sql"), line=9),
    ]
    for reported in ([], findings):
        file.write_text(write(reported, Format.SARIF, config=config))
        assert validators.find_sarif_problems(file, tmp_path) == set()
