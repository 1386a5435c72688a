#!/bin/bash
# Start the service manager of a user with private folders, install and run the units of the configuration in the current folder, and print
# what systemd reports: service_manager.sh DBCTL FOLDER
set -euo pipefail
dbctl=$1 folder=$2
mount --make-rshared / # a service sees its credentials through a mount that systemd makes elsewhere
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/user/0 "$folder/config"
chmod 700 /run/user/0
export XDG_RUNTIME_DIR=/run/user/0 XDG_CONFIG_HOME=$folder/config
# A manager moves all processes of its control group, and of the groups in it, such as those of containers. So it gets a group of its own.
group=dbctl-manager-$$
for hierarchy in /sys/fs/cgroup/unified /sys/fs/cgroup/systemd /sys/fs/cgroup; do
    [ ! -e $hierarchy/cgroup.procs ] || break
done
own=$(sed -n 's/^0:://p' /proc/self/cgroup)
[ $hierarchy != /sys/fs/cgroup/systemd ] || own=$(sed -n 's/^[0-9]*:name=systemd://p' /proc/self/cgroup)
mkdir "$hierarchy$own/$group"
(
    echo $BASHPID > "$hierarchy$own/$group/cgroup.procs"
    exec env --unset=PLACE_FILE /lib/systemd/systemd --user > "$folder/manager.log" 2>&1
) &
manager=$!
trap end EXIT
end() {
    kill $manager
    wait $manager || true
    for _ in $(seq 100); do
        find /sys/fs/cgroup -depth -type d -path "*/$group*" -exec rmdir {} + 2> /dev/null && break
        sleep 0.1
    done
}
for _ in $(seq 100); do
    systemctl --user is-system-running > /dev/null 2>&1 && break
    sleep 0.1
done
"$dbctl" schedule systemd --user --install --quiet
units=$folder/config/systemd/user
for timer in "$units"/*.timer; do
    echo "$(systemctl --user is-active "$(basename "$timer")") $(basename "$timer")"
done
printf '[apps.fp.schedule]\nsearch = "off"\ndrill = "off"\n' > off
cat dbctl.toml off > changed.toml
mv dbctl.toml kept.toml
mv changed.toml dbctl.toml
"$dbctl" schedule systemd --user --install --quiet
echo "removed $(systemctl --user is-active dbctl-drill-fp.timer || true) $(ls "$units" | grep -c drill || true)"
mv kept.toml dbctl.toml
"$dbctl" schedule systemd --user --install --quiet
# The units of the system, without two restrictions that a container cannot have.
"$dbctl" schedule systemd --install --directory "$folder/system" --quiet
for service in "$folder"/system/*.service; do
    name=system-$(basename "$service")
    cp "$service" "$units/$name"
    printf 'ProtectKernelLogs=no\nProtectKernelTunables=no\n' >> "$units/$name"
done
systemctl --user daemon-reload
for service in "$units"/*.service; do
    name=$(basename "$service")
    systemctl --user start "$name" || systemctl --user status "$name" >&2 || true
    echo "result $name $(systemctl --user show "$name" --property=Result --value)"
done
