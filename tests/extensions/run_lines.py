"""Run command lines, each in a copy of a deployment, and print their results; the process chooses the installation of dbctl.

``python run_lines.py DEPLOYMENT FOLDER`` reads a JSON list of command lines from standard input.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from tests.in_process import run_command


def main() -> None:
    deployment, folder = map(Path, sys.argv[1:])
    results = []
    for words in json.load(sys.stdin):
        copy = folder / deployment.name
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(deployment, copy)
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "EDITOR": "true", "LANG": "C.UTF-8"}
        environment["DBCTL_STATE"] = str(copy / "state")
        process = run_command(words, environment=environment, cwd=copy)
        results.append([process.returncode, process.stdout.decode(), process.stderr.decode()])
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
