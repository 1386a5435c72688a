"""Profiles: their model and loader, and the codecs and formats that they may name."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.profiles.codecs import (
        BOOLEANS,
        EPOCH,
        KEYS,
        SMALLEST_MILLISECONDS,
        TIMES,
        BooleanCodec,
        Encoding,
        HashFormat,
        KeyCodec,
        TimeCodec,
        decode_text,
        read_boolean,
        read_text,
        read_time,
        text_or_none,
    )
    from dbctl.profiles.formats import CRON_FIELDS, FORMATS
    from dbctl.profiles.loader import load
    from dbctl.profiles.passwords import (
        JOINT,
        estimate_cost,
        find_hash_problem,
        find_prefix_problem,
        format_of_prefix,
        has_hash_form,
        hash_password,
        identify_format,
        new_password,
        read_prefix,
        verify_password,
    )
    from dbctl.profiles.payloads import DECODERS, PayloadCodec, is_payload, read_payload
    from dbctl.profiles.php import dump_php, load_flags, load_php
    from dbctl.profiles.row_paths import KEY_IN_TEXT, RowStep, has_row_path, parse_row_path
    from dbctl.profiles.schema_references import list_database_references, list_schema_references
    from dbctl.profiles.table_prefix import change_prefix, detect_prefix, find_prefixes
    from dbctl.profiles.templates import (
        create_value,
        fill,
        find_filter_problem,
        find_generator_problem,
        list_fields,
        slugify,
    )
    from dbctl.profiles.variants import apply_variant, list_versions, locate_key
