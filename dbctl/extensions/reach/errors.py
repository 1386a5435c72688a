"""Failures of routes to databases, each with what repairs it."""

from __future__ import annotations

from dbctl.errors.base import Exit
from dbctl.errors.connection import ReadOnlyError, UnreachableError


class RouteError(UnreachableError, status=Exit.UNREACHABLE, code="route-failed"):
    sentence = "cannot open {target} by {part}: {reason}"
    remedy = "Run this by itself, and repair what it reports: {command}"


class RouteProgramMissingError(RouteError, code="route-program-missing"):
    can_pass = False
    remedy = "Install {program} on {place}, or remove {part} from via."


class HostKeyUnknownError(RouteError):
    can_pass = False
    remedy = (
        "dbctl accepts no unknown key. Connect once, and compare the key with that of the server: {command}"
    )


class HostKeyChangedError(RouteError):
    can_pass = False
    remedy = "Another machine may have answered. Ask its administrator for the new key before you replace the old one in known_hosts."


class SshDeniedError(RouteError):
    can_pass = False
    remedy = "dbctl asks for no password. Load a key into the agent with ssh-add, or name one in ~/.ssh/config; then this must succeed: {command}"


class SshHostUnknownError(RouteError):
    remedy = "Correct the host in via, or name it in ~/.ssh/config; then this must succeed: {command}"


class SshUnreachableError(RouteError):
    remedy = "Start its SSH server, and check address, port and firewalls; then this must succeed: {command}"


class ForwardingDeniedError(RouteError):
    can_pass = False
    remedy = "The administrator of {place} can allow it: AllowTcpForwarding and PermitOpen in sshd_config, restrict and no-port-forwarding in authorized_keys. Then this must connect: {command}"


class RoutedServerRefusedError(RouteError):
    remedy = "Start the server, and check host and port in the URL, which are as {place} sees them; then this must connect: {command}"


class RouteLostError(RouteError):
    remedy = "The next command opens the route again. If it is lost often, find out what ends this: {command}"


class ContainerAccessError(RouteError):
    remedy = "Start the service of {program}, or correct DOCKER_HOST or CONTAINER_HOST; then this must succeed: {command}"


class ContainerDeniedError(RouteError):
    can_pass = False
    remedy = "The user on {place} may not use the socket of {program}. Run dbctl there as root or as a member of the group docker, which is equivalent to root, or run the container without root (rootless); then this must succeed: {command}"


class ClusterAccessError(RouteError):
    remedy = "Check the context of kubectl, and the right to list pods and to run programs in them; then this must succeed: {command}"


class ContainerMissingError(RouteError):
    remedy = "List the containers with: {command}"


class ContainerAmbiguousError(RouteError):
    can_pass = False
    remedy = "Write one of them in via: {names}"


class ContainerStoppedError(RouteError):
    remedy = "dbctl starts no container. Start this one with: {command}"


class ContainerShellError(RouteError):
    can_pass = False
    remedy = "Use an image with bash, socat or nc, or publish the port of the server on this machine."


class VolumeMissingError(RouteError):
    can_pass = False
    remedy = "Mount a volume or a folder of the machine in the container, and move the file there; or run dbctl in the container."


class FileMountError(RouteError):
    can_pass = False
    remedy = (
        "All files of a database must be in one mount: mount the folder of {path}, instead of single files."
    )


class VolumeForeignError(RouteError):
    can_pass = False
    remedy = (
        "Its container does not run on {place} itself, but in a virtual machine or elsewhere: run dbctl in the container,"
        " or write ssh:HOST before it in via."
    )


class VolumeDeniedError(RouteError):
    can_pass = False
    remedy = "Run dbctl as a user who may read the volume on {place}, such as root."


class PodFileError(RouteError):
    can_pass = False
    remedy = "Run dbctl in the pod."


class RemoteFileMissingError(RouteError):
    remedy = "Check the path on {place}; a relative one begins in the home of the login."


class SnapshotDeniedError(RouteError):
    can_pass = False
    remedy = "Use a login of {place} that may read the file and its folder."


class SnapshotProgramMissingError(RouteError):
    can_pass = False
    remedy = "Install sqlite3 or python3 on {place}, or run dbctl there."


class SnapshotFailedError(RouteError):
    remedy = "Nothing remains on {place}. Use a login that may write into the folder of the file, or run dbctl there."


class RouteDbctlMissingError(ReadOnlyError):
    sentence = "{target} is read-only: {path} is on another machine ({part}), which has no dbctl"
    remedy = "Nothing was changed. Install dbctl {version} on {place}; then this must print it: {command}"


class RouteDbctlVersionError(ReadOnlyError):
    sentence = "{target} is read-only: {path} is on another machine ({part}), which has dbctl {remote}, and this one {version}"
    remedy = "Nothing was changed. Install the same version on both machines; then this must print {version}: {command}"


class RouteLocalNeedError(ReadOnlyError):
    sentence = "{target} is read-only: {path} is on another machine ({part}), and the command needs {need} of this one"
    remedy = "Nothing was changed. {hint}Run dbctl on {place}: {command}"
