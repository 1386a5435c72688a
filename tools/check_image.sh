#!/usr/bin/env bash
# Install dbctl as the Dockerfile does, from a folder with only the files that .dockerignore allows: check_image.sh
# .dockerignore excludes everything and then names what the image needs, so a copy of these paths is the context.
set -euo pipefail
source=$(realpath "$(dirname "$0")/..")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
[[ $(head -1 "$source/.dockerignore") == "*" ]]
mkdir "$folder/context"
sed -n 's/^!//p' "$source/.dockerignore" | while read -r path; do cp -r "$source/$path" "$folder/context/$path"; done
sed -n '/^[^!*]/p; /^\*\*/p' "$source/.dockerignore" | sed 's|^\*\*/||' | sort -u | while read -r name; do
    find "$folder/context" -name "$name" -prune -exec rm -rf {} +
done
python3 -m venv "$folder/venv"
(cd "$folder/context" && "$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check '.[all]')
cd "$folder"
HOME=$folder venv/bin/dbctl --version
HOME=$folder venv/bin/dbctl migrate --help > /dev/null
test "$(find venv -path '*/dbctl/_data/man/*' -name '*.1*' | head -c1)"
