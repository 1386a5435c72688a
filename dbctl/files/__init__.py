"""Files and processes: atomic writes, locks, temporary folders, archives, compression, client programs."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.files.age import Identity, MadeKey, Recipient
    from dbctl.files.atomic import (
        check_settings,
        expand_home,
        is_full,
        is_regular,
        make_folder,
        read_settings,
        read_whole,
        rename_beside,
        sync_directory,
        sync_file,
        written_whole,
    )
    from dbctl.files.compression import ENDINGS, Seal, UnpackedAll
    from dbctl.files.concurrency import both
    from dbctl.files.lock import is_held
    from dbctl.files.mounts import Volume, volume_of
    from dbctl.files.parallel_gzip import LEVEL, packing, unpacked
    from dbctl.files.progress import Progress, at_once, silent
    from dbctl.files.rate_limit import Pace
    from dbctl.files.subprocesses import BLOCK, LOOK_SECONDS, SECRETS, new_file
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "age": "Identity MadeKey Recipient",
            "atomic": (
                "check_settings expand_home is_full is_regular make_folder read_settings read_whole rename_beside "
                "sync_directory sync_file written_whole"
            ),
            "compression": "ENDINGS Seal UnpackedAll",
            "concurrency": "both",
            "lock": "is_held",
            "mounts": "Volume volume_of",
            "parallel_gzip": "LEVEL packing unpacked",
            "progress": "Progress at_once silent",
            "rate_limit": "Pace",
            "subprocesses": "BLOCK LOOK_SECONDS SECRETS new_file",
        },
    )
