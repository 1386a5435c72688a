#!/usr/bin/env bash
# Install a wheel into a new environment of each supported Python on the PATH, and run it: check_wheel.sh WHEEL
set -euo pipefail
wheel=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export HOME=$folder
versions=" "
for python in python3 python3.11 python3.12 python3.13 python3.14; do
    # a shim of pyenv is on the PATH without its version
    version=$("$python" -c 'import sys; print(*sys.version_info[:2], sep=".")' 2> /dev/null) || continue
    [[ $versions != *" $version "* ]] || continue
    versions+="$version "
    mkdir "$folder/$version"
    cd "$folder/$version"
    "$python" -m venv venv
    venv/bin/python -m pip install -qq --disable-pip-version-check "$wheel"
    dbctl=$PWD/venv/bin/dbctl
    "$dbctl" --version
    "$dbctl" demo flashpoint-web shop > demo.txt
    cd shop
    "$dbctl" status
    "$dbctl" backup create
    "$dbctl" backup verify
    "$dbctl" support --to "$folder/$version/support.tar.gz" > /dev/null
done
echo "the wheel runs on Python$versions"
