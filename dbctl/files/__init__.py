"""Files and processes: atomic writes, locks, temporary folders, archives, compression, client programs."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.files.age import Identity, ProtectedKey, Recipient
    from dbctl.files.atomic import (
        HashingCounter,
        check_settings,
        create_empty,
        expand_home,
        is_full,
        is_regular,
        make_folder,
        read_settings,
        read_settings_bytes,
        read_whole,
        rename_exclusively,
        sync_directory,
        sync_file,
        translate_errors,
        write_atomically,
        write_blocks,
    )
    from dbctl.files.codecs import LEVEL, SUFFIXES, ParallelGzip, open_parallel_gzip, read_gzip
    from dbctl.files.compression import DecompressedImport, Encrypt
    from dbctl.files.concurrency import run_in_parallel, start_call
    from dbctl.files.lock import find_planted, is_held
    from dbctl.files.mounts import Volume, read_volume
    from dbctl.files.progress import Progress, RateLimiter, no_progress, release_nothing
    from dbctl.files.subprocesses import (
        BLOCK,
        POLL_SECONDS,
        SECRETS_PREFIX,
        ClientProgram,
        NewFile,
        create_file,
    )
