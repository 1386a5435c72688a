#!/usr/bin/env bash
# Extract a Debian package into a new folder, and run it there: check_deb.sh FILE
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
dpkg-deb --extract "$1" "$folder"
if grep -rIlF /tmp/ "$folder/opt/dbctl/bin"; then
    echo "these scripts name a temporary folder" >&2
    exit 1
fi
test "$(readlink "$folder/usr/bin/dbctl")" = /opt/dbctl/bin/dbctl
head -1 "$folder/opt/dbctl/bin/dbctl" | grep --quiet '^#!/opt/dbctl/bin/python'
export HOME=$folder
# An environment works in every folder; only its scripts name the installed one.
dbctl=("$folder/opt/dbctl/bin/python" -m dbctl)
"${dbctl[@]}" version
"${dbctl[@]}" demo flashpoint-web "$folder/shop" > /dev/null
cd "$folder/shop"
"${dbctl[@]}" status
"${dbctl[@]}" backup create
