#!/usr/bin/env bash
# Extract a server of Debian's development suite with all its libraries: install_server.sh FOLDER mysql|postgresql
# Debian's releases have no MySQL, and an older PostgreSQL. Nothing is installed on the machine. The programs in FOLDER/bin run with
# the extracted libraries, whatever those of the machine are.
set -euo pipefail
folder=$(realpath -m "$1") server=$2
archive=http://deb.debian.org/debian keyring=/usr/share/keyrings/debian-archive-keyring.gpg
declare -A packages=([mysql]="mysql-server-core mysql-client-core" [postgresql]="postgresql ^postgresql-[0-9]+-jit$")
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
get install --yes --download-only --no-install-recommends ${packages[$server]} > /dev/null
for package in "$folder"/apt/cache/archives/*.deb; do
    dpkg-deb --extract "$package" "$folder/root"
done
rm -r "$folder/apt"
chmod -R a+rX "$folder"
libraries=$(dirname "$(find "$folder/root/usr/lib" -name libc.so.6)") loader=$(find "$folder/root/usr/lib64" -name 'ld-*')
wrap() {
    printf '#!/bin/sh\nexec %s --argv0 "%s" --library-path %s %s "$@"\n' "$loader" "$2" "$libraries" "$1" > "$3"
    chmod 755 "$3"
}
if [ "$server" = mysql ]; then
    for program in "$folder"/root/usr/{bin,sbin}/mysql{,d,binlog,dump}; do
        # The name of the program leads the server to its messages.
        [ ! -f "$program" ] || wrap "$program" "$program" "$folder/bin/$(basename "$program")"
    done
    "$folder/bin/mysqld" --version
else
    programs=$(find "$folder"/root/usr/lib/postgresql -name bin | sort -V | tail -1)
    for program in "$programs"/*; do
        # The programs find each other, and their files, by their own place.
        if [ "$(head -c 4 "$program" | tail -c 3)" = ELF ]; then
            mv "$program" "$program.real"
            wrap "$program.real" '$0' "$program"
        fi
    done
    rmdir "$folder/bin"
    ln -s "$programs" "$folder/bin"
    as_server=()
    [ "$(id -u)" != 0 ] || as_server=(runuser -u postgres --)  # it does not run as root
    "${as_server[@]}" "$folder/bin/postgres" --version
fi
