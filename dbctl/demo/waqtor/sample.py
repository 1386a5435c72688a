"""The options of the sample, and functions that write its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random

from dbctl.demo.random import rng_for, uuid4
from dbctl.demo.waqtor.columns import DOCUMENT, ColumnMapping
from dbctl.engines.contract import Writable
from dbctl.model import Struct

#: The columns that the sample fills in deployments, in the order of the values of its rows.
COLUMNS = {
    "users": "id email password_hash name role is_active last_login_at created_at updated_at",
    "whatsapp_sessions": "id user_id client_id name phone_number is_active is_ready session_data last_active_at created_at updated_at",
    "recipients": "id user_id phone name email company tags custom_fields is_active created_at updated_at",
    "groups": "id user_id name description color created_at updated_at",
    "recipient_groups": "id recipient_id group_id created_at",
    "messages": "id session_id user_id message_id to_phone from_phone body status ack_code direction has_media sent_at created_at updated_at",
    "campaigns": "id session_id user_id name message_template status total_recipients sent_count failed_count started_at completed_at created_at updated_at",
    "campaign_recipients": "id campaign_id recipient_id status error_message sent_at created_at updated_at",
    "feature_subscriptions": "user_id feature_name status subscription_type start_date end_date trial_end_date created_at updated_at",
    "access_codes": "feature_name code_hash subscription_type max_uses created_by created_at updated_at",
    "feature_access_logs": "user_id feature_name access_type status ip_address created_at",
    "api_keys": "user_id name key_hash prefix permissions created_at updated_at",
    "refresh_tokens": "user_id token expires_at is_revoked ip_address user_agent created_at updated_at",
}
#: Variants that store the same rows in other columns.
OTHER_VARIANTS: Mapping[str, Mapping[str, ColumnMapping]] = {"document": DOCUMENT}
FEATURES = ("Campaigns", "Reports", "Interactive Messages", "SmartBot", "Webhooks")


class Sample(Struct, frozen=True, kw_only=True):
    """The options of the sample."""

    users: int
    messages: int
    seed: int
    at: datetime
    variant: str  #: variant of the app's schema

    def has_table(self, table: str) -> bool:
        """Whether the variant has a table of ``COLUMNS``."""
        return table in OTHER_VARIANTS.get(self.variant, COLUMNS)

    def ago(self, days: float) -> datetime:
        """Return the time this many days before the time of the sample, in whole milliseconds."""
        timestamp = self.at - timedelta(days=days)
        return timestamp.replace(microsecond=timestamp.microsecond // 1000 * 1000)

    def rng_for(self, *key: str | int) -> Random:
        """Return the random generator of one object."""
        return rng_for(self.seed, "waqtor", *key)

    def create_id(self, *key: str | int) -> str:
        """Return the id of a generated row."""
        return uuid4(self.rng_for("id", *key))


def insert(db: Writable, sample: Sample, table: str, rows: Iterable[Sequence[object]]) -> int:
    """Insert rows whose values are in the order of the table's ``COLUMNS``, into the columns of the sample's variant.

    Returns:
        The number of rows; 0 if the variant lacks the table.
    """
    names = COLUMNS[table].split()
    if sample.variant not in OTHER_VARIANTS:
        return db.insert_many(table, names, rows)
    if not sample.has_table(table):
        return 0
    columns = OTHER_VARIANTS[sample.variant][table]
    records = (dict(zip(names, row, strict=True)) for row in rows)
    return db.insert_many(
        table,
        list(columns),
        (
            [row[source] if isinstance(source, str) else source(row) for source in columns.values()]
            for row in records
        ),
    )
