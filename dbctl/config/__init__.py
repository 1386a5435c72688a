"""The configuration: ``dbctl.toml``, access to object storage, and the data files of the package."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.config.bundled import bundled_folder
    from dbctl.config.environment import (
        VariableUnreadableError,
        editor_command,
        fill_variables,
        operator_name,
        read_set_variables,
        secret_file,
        user_name,
    )
    from dbctl.config.fleet import FleetSelection, is_pattern, is_valid_name, select_instance
    from dbctl.config.loader import FILE_NAME
    from dbctl.config.model import (
        CONFIG_SCHEMA,
        PLAIN,
        ActionHooks,
        ActionName,
        App,
        AppriseConfig,
        AuditConfig,
        BackupConfig,
        EmailConfig,
        Embedder,
        EncryptionConfig,
        JobCommand,
        JournalConfig,
        MaintenanceModeConfig,
        NotifyConfig,
        NotifyEvent,
        NtfyConfig,
        Retention,
        WebhookConfig,
    )
    from dbctl.config.notify import (
        HttpAddress,
        fill_address,
        fill_placeholders,
        fill_text,
        merge_notify,
        read_channel_secret,
    )
    from dbctl.config.paths import has_home, profile_folders, state_folder
    from dbctl.config.redaction import (
        MASK,
        list_secrets,
        redact_channel,
        redact_message,
        redact_text,
        redact_value,
    )
    from dbctl.config.s3 import Access
    from dbctl.config.secrets import DecryptionFiles, embedder_key, read_pepper
    from dbctl.config.sections import Sections, Selection, SourceFile, read_sections, report_first_problem
    from dbctl.config.storage import PROVIDERS, Address, is_storage, parse_address, resolve_settings
    from dbctl.config.trust import require_trusted
