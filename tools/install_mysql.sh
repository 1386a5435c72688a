#!/usr/bin/env bash
# Extract MySQL, which Debian has only in its development suite, with all libraries: install_mysql.sh FOLDER
# Nothing is installed on the machine. The programs in FOLDER/bin run with the extracted libraries, whatever those of the machine are.
set -euo pipefail
folder=$(realpath -m "$1")
archive=http://deb.debian.org/debian keyring=/usr/share/keyrings/debian-archive-keyring.gpg
rm -rf "$folder"
trap 'rm -rf "$folder"' ERR  # a part must not look like the whole
mkdir -p "$folder"/{bin,root,apt/lists/partial,apt/cache/archives/partial}
touch "$folder/apt/status"  # no package is installed, so apt fetches each that the programs need
echo "deb [signed-by=$keyring] $archive sid main" > "$folder/apt/sources.list"
get() {
    apt-get -qq -o Dir::Etc::SourceList="$folder/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State="$folder/apt" -o Dir::State::status="$folder/apt/status" -o Dir::Cache="$folder/apt/cache" \
        -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}
get update
get install --yes --download-only --no-install-recommends mysql-server-core mysql-client-core > /dev/null
for package in "$folder"/apt/cache/archives/*.deb; do
    dpkg-deb --extract "$package" "$folder/root"
done
rm -r "$folder/apt"
libraries=$(dirname "$(find "$folder/root/usr/lib" -name libc.so.6)")
for program in "$folder"/root/usr/{bin,sbin}/mysql{,d,binlog,dump}; do
    if [ -f "$program" ]; then
        # The name of the program leads the server to its messages.
        printf '#!/bin/sh\nexec %s --argv0 %s --library-path %s %s "$@"\n' "$(find "$folder/root/usr/lib64" -name 'ld-*')" \
            "$program" "$libraries" "$program" > "$folder/bin/$(basename "$program")"
        chmod +x "$folder/bin/$(basename "$program")"
    fi
done
"$folder/bin/mysqld" --version
