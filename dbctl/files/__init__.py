"""Files and processes: atomic writes, locks, temporary folders, archives, compression, client programs."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.files.age import Identity, ProtectedKey, Recipient
    from dbctl.files.atomic import (
        check_settings,
        expand_home,
        is_full,
        is_regular,
        make_folder,
        read_settings,
        read_whole,
        rename_exclusively,
        sync_directory,
        sync_file,
        write_atomically,
    )
    from dbctl.files.codecs import SUFFIXES
    from dbctl.files.compression import DecompressedImport, Encrypt
    from dbctl.files.concurrency import run_in_parallel
    from dbctl.files.lock import is_held
    from dbctl.files.mounts import Volume, read_volume
    from dbctl.files.parallel_gzip import LEVEL, open_parallel_gzip, read_gzip
    from dbctl.files.progress import Progress, RateLimiter, no_progress, release_nothing
    from dbctl.files.subprocesses import BLOCK, POLL_SECONDS, SECRETS_PREFIX, create_file
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "age": "Identity ProtectedKey Recipient",
            "atomic": (
                "check_settings expand_home is_full is_regular make_folder read_settings read_whole "
                "rename_exclusively sync_directory sync_file write_atomically"
            ),
            "codecs": "SUFFIXES",
            "compression": "DecompressedImport Encrypt",
            "concurrency": "run_in_parallel",
            "lock": "is_held",
            "mounts": "Volume read_volume",
            "parallel_gzip": "LEVEL open_parallel_gzip read_gzip",
            "progress": "Progress RateLimiter no_progress release_nothing",
            "subprocesses": "BLOCK POLL_SECONDS SECRETS_PREFIX create_file",
        },
    )
