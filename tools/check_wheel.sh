#!/usr/bin/env bash
# Install a wheel into a new environment, and run it: check_wheel.sh WHEEL
set -euo pipefail
wheel=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check "$wheel"
dbctl=$folder/venv/bin/dbctl
export HOME=$folder
"$dbctl" --version
"$dbctl" demo flashpoint-web shop > demo.txt
cd shop
"$dbctl" status
"$dbctl" backup create
"$dbctl" backup verify
"$dbctl" support --to "$folder/support.tar.gz" > /dev/null
