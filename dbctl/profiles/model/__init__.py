"""The model of a profile: the sections and keys of its TOML file."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.profiles.model.base import (
        ColumnNames,
        Constant,
        Lookup,
        Rule,
        SchemaName,
        Section,
        TextFormat,
        is_optional,
    )
    from dbctl.profiles.model.cleanup import (
        Cleanup,
        RecountRule,
        TimeOffset,
        expand_variants,
        validate_cleanup,
    )
    from dbctl.profiles.model.databases import (
        NO_LEDGER,
        Database,
        Environment,
        ForeignLedger,
        Format,
        Ledger,
        Migrations,
        MigrationsVariant,
        Variable,
    )
    from dbctl.profiles.model.integrity import (
        CrossLink,
        Exclusive,
        InvariantQuery,
        InvariantVariant,
        KeySearch,
        KnownLogin,
        KnownSecret,
        Recount,
        States,
        Values,
    )
    from dbctl.profiles.model.profile import Backup, ForeignFiles, Profile, ProfileVariant, Topic
    from dbctl.profiles.model.rebuild import Rebuild
    from dbctl.profiles.model.reports import RelativeTime, Report, ReportVariant, StoredFile
    from dbctl.profiles.model.roles import (
        GroupMembership,
        Link,
        Membership,
        NamePart,
        Permissions,
        Rank,
        RoleMetadata,
        Roles,
        UserRole,
        list_role_names,
        validate_user_role,
    )
    from dbctl.profiles.model.search import (
        RESERVED_NAMES,
        Detail,
        DetailVariant,
        KeySource,
        Search,
        SearchKey,
        SearchPath,
        Sort,
        TextVariant,
    )
    from dbctl.profiles.model.semantic import FIXED_FIELDS, RelatedRows, Semantic
    from dbctl.profiles.model.sessions import Sessions
    from dbctl.profiles.model.settings import (
        SettingFormat,
        SettingKey,
        Settings,
        SettingsRow,
        SettingsVariant,
        SettingType,
        StandardSetting,
    )
    from dbctl.profiles.model.users import (
        ActiveValues,
        CompanionRow,
        JoinedField,
        Lockout,
        Password,
        Payload,
        SettingOrDefault,
        SignInTable,
        Users,
    )
