#!/usr/bin/env bash
# Build a Debian package of a wheel next to it: build_deb.sh WHEEL
#
# The package has an environment in /opt/dbctl, because Debian does not have all libraries in the required versions. It works with the
# minor version of Python that built it (PYTHON, by default /usr/bin/python3), on which it depends.
set -euo pipefail
wheel=$(realpath "$1")
python=${PYTHON:-/usr/bin/python3}
root=$(realpath "$(dirname "$0")/..")
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT
minor=$("$python" -c 'import sys; print(sys.version_info[1])')
version=$(basename "$wheel" | cut -d- -f2)
architecture=$(dpkg --print-architecture)
opt=$staging/opt/dbctl
"$python" -m venv --without-pip "$opt"
"$root/.venv/bin/python" -m pip --python "$opt/bin/python" install -qq --disable-pip-version-check --no-compile \
    "$wheel[all]"
# Scripts and metadata name the folder in which they were installed.
grep -rlIF "$staging" "$opt" | xargs --no-run-if-empty sed -i "s|$staging||g"
mkdir -p "$staging/usr/bin" "$staging/usr/share/bash-completion/completions" "$staging/usr/share/zsh/vendor-completions" \
    "$staging/usr/share/fish/vendor_completions.d" "$staging/usr/share/doc/dbctl" "$staging/DEBIAN"
ln -s /opt/dbctl/bin/dbctl "$staging/usr/bin/dbctl"
cp "$root/completions/dbctl.bash" "$staging/usr/share/bash-completion/completions/dbctl"
cp "$root/completions/_dbctl" "$staging/usr/share/zsh/vendor-completions/_dbctl"
cp "$root/completions/dbctl.fish" "$staging/usr/share/fish/vendor_completions.d/dbctl.fish"
cp "$root/LICENSE" "$staging/usr/share/doc/dbctl/copyright"
cat > "$staging/DEBIAN/control" << END
Package: dbctl
Version: $version
Architecture: $architecture
Maintainer: The dbctl authors <dbctl@users.noreply.github.com>
Installed-Size: $(du -sk "$staging/opt" | cut -f1)
Depends: python3 (>= 3.$minor), python3 (<< 3.$((minor + 1)))
Recommends: mariadb-client, postgresql-client, rdiff
Section: database
Priority: optional
Homepage: https://github.com/dbctl/dbctl
Description: administer the databases behind self-hosted applications
 Users, roles, settings, migrations, backups with verified restores, and
 integrity checks on SQLite, PostgreSQL, MySQL and MariaDB.
END
# Bytecode is not in the package: Python would not write it for other users.
cat > "$staging/DEBIAN/postinst" << 'END'
#!/bin/sh
set -e
/opt/dbctl/bin/python -m compileall -q /opt/dbctl/lib || true
END
cat > "$staging/DEBIAN/prerm" << 'END'
#!/bin/sh
set -e
find /opt/dbctl/lib -name __pycache__ -type d -prune -exec rm -rf {} +
END
chmod 755 "$staging/DEBIAN/postinst" "$staging/DEBIAN/prerm"
chmod -R u=rwX,go=rX "$staging"
dpkg-deb --root-owner-group --build "$staging" "$(dirname "$wheel")/dbctl_${version}_$architecture.deb" > /dev/null
