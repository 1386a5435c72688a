"""The model of a profile: what it can describe of an app."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.profiles.model.base import (
        NO_LEDGER,
        Ago,
        CrossLink,
        Database,
        Exclusive,
        ForeignLedger,
        Format,
        KeySearch,
        KnownLogin,
        Ledger,
        Link,
        Lockout,
        Loose,
        Migrations,
        MigrationsShape,
        Name,
        Password,
        Profile,
        Recount,
        Report,
        ReportShape,
        Roles,
        Rule,
        Section,
        SettingOrDefault,
        Settings,
        SettingsRow,
        SettingsShape,
        SignedIn,
        StandardSetting,
        States,
        StoredFile,
        TextFormat,
        UserRole,
        Users,
    )
    from dbctl.profiles.model.cleanup import Cleanup, Moved, Recounted, mistakes, shapes
    from dbctl.profiles.model.environment import Environment, Variable
    from dbctl.profiles.model.known_problems import Flaw, FlawShape, KnownSecret
    from dbctl.profiles.model.rebuild import Rebuild
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
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "base": (
                "Ago CrossLink Database Exclusive ForeignLedger Format KeySearch KnownLogin Ledger Link Lockout Loose "
                "Migrations MigrationsShape NO_LEDGER Name Password Profile Recount Report ReportShape Roles Rule "
                "Section SettingOrDefault Settings SettingsRow SettingsShape SignedIn StandardSetting States "
                "StoredFile TextFormat UserRole Users"
            ),
            "cleanup": "Cleanup Moved Recounted mistakes shapes",
            "environment": "Environment Variable",
            "known_problems": "Flaw FlawShape KnownSecret",
            "rebuild": "Rebuild",
            "search": "Along Detail DetailShape RESERVED Search SearchKey Shape Sort TextShape",
            "semantic": "Beside OWN Semantic",
            "sessions": "Sessions",
        },
    )
