#!/bin/bash
# Run a command as in a container with the volumes of the manifests, the file system read-only otherwise, as their user:
# container.sh CONFIG DATA USER PYTHON PACKAGES SOURCE ARGUMENTS...; these are the folders of the interpreter, of its packages, and of dbctl.
set -euo pipefail
config=$1 data=$2 user=$3 python=$4 packages=$5 source=$6
shift 6
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
for place in etc var/lib; do
    mkdir -p "/mnt/$place/upper/dbctl" "/mnt/$place/work"
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=/mnt/$place/upper,workdir=/mnt/$place/work" "/$place"
done
mkdir /mnt/python /mnt/packages /mnt/source
mount --bind "$python" /mnt/python
mount --bind "$packages" /mnt/packages
mount --bind "$source" /mnt/source
mount --bind "$config" /etc/dbctl
mount -o remount,bind,ro /etc/dbctl
mount --bind "$data" /var/lib/dbctl
mount -o remount,bind,ro /etc
mount -t tmpfs tmpfs /tmp
chmod 1777 /tmp
mount -o remount,bind,ro /
cd /var/lib/dbctl
exec setpriv --reuid="$user" --regid="$user" --clear-groups --bounding-set=-all --no-new-privs \
    env -i PATH=/usr/bin:/bin HOME=/var/lib/dbctl DBCTL_CONFIG=/etc/dbctl/dbctl.toml PYTHONPATH=/mnt/packages:/mnt/source \
    PYTHONDONTWRITEBYTECODE=1 LD_LIBRARY_PATH=/mnt/python/lib /mnt/python/bin/python3 -m dbctl "$@"
