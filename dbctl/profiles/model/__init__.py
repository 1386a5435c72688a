"""The model of a profile: what it can describe of an app."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.profiles.model.base import Name, Section
    from dbctl.profiles.model.cleanup import Cleanup, Moved, Recounted, mistakes, shapes
    from dbctl.profiles.model.databases import (
        NO_LEDGER,
        Database,
        Environment,
        ForeignLedger,
        Format,
        Ledger,
        Migrations,
        MigrationsShape,
        Variable,
    )
    from dbctl.profiles.model.integrity import (
        CrossLink,
        Exclusive,
        Flaw,
        FlawShape,
        KeySearch,
        KnownLogin,
        KnownSecret,
        Recount,
        States,
    )
    from dbctl.profiles.model.profile import Backup, Loose, Profile
    from dbctl.profiles.model.rebuild import Rebuild
    from dbctl.profiles.model.reports import Ago, Report, ReportShape, StoredFile
    from dbctl.profiles.model.search import (
        RESERVED,
        Along,
        Detail,
        DetailShape,
        Search,
        SearchKey,
        Shape,
        Sort,
        TextShape,
    )
    from dbctl.profiles.model.semantic import OWN, Beside, Semantic
    from dbctl.profiles.model.sessions import Sessions
    from dbctl.profiles.model.settings import Settings, SettingsRow, SettingsShape, StandardSetting
    from dbctl.profiles.model.users import (
        Link,
        Lockout,
        Password,
        Roles,
        Rule,
        SettingOrDefault,
        SignedIn,
        TextFormat,
        UserRole,
        Users,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "base": "Name Section",
            "cleanup": "Cleanup Moved Recounted mistakes shapes",
            "databases": "Database Environment ForeignLedger Format Ledger Migrations MigrationsShape NO_LEDGER Variable",
            "integrity": "CrossLink Exclusive Flaw FlawShape KeySearch KnownLogin KnownSecret Recount States",
            "profile": "Backup Loose Profile",
            "rebuild": "Rebuild",
            "reports": "Ago Report ReportShape StoredFile",
            "search": "Along Detail DetailShape RESERVED Search SearchKey Shape Sort TextShape",
            "semantic": "Beside OWN Semantic",
            "sessions": "Sessions",
            "settings": "Settings SettingsRow SettingsShape StandardSetting",
            "users": "Link Lockout Password Roles Rule SettingOrDefault SignedIn TextFormat UserRole Users",
        },
    )
