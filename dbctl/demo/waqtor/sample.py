"""What was asked for, and how its rows get into a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random

from dbctl.demo.random import dice, uuid4
from dbctl.demo.waqtor.columns import DOCUMENT, Kept
from dbctl.engines.contract import Writable
from dbctl.model import Value

#: The columns that the sample fills as the app is deployed, in the order in which its rows are made.
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
#: What shapes that keep the same rows in other columns have.
OTHER_SHAPES: Mapping[str, Mapping[str, Kept]] = {"document": DOCUMENT}
FEATURES = ("Campaigns", "Reports", "Interactive Messages", "SmartBot", "Webhooks")


class Sample(Value, frozen=True, kw_only=True):
    """What was asked for."""

    users: int
    messages: int
    seed: int
    at: datetime
    shape: str  #: of the app's schema

    def has(self, table: str) -> bool:
        """Return whether the shape has a table of ``COLUMNS``."""
        return table in OTHER_SHAPES.get(self.shape, COLUMNS)

    def ago(self, days: float) -> datetime:
        """Return the moment so many days before the sample's own, in whole milliseconds."""
        moment = self.at - timedelta(days=days)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def dice(self, *key: str | int) -> Random:
        """Return the chance that belongs to one invented thing."""
        return dice(self.seed, "waqtor", *key)

    def id(self, *key: str | int) -> str:
        """Return the id of an invented row."""
        return uuid4(self.dice("id", *key))


def insert(db: Writable, sample: Sample, table: str, rows: Iterable[Sequence[object]]) -> int:
    """Insert rows whose values are in the order of the table's ``COLUMNS``, as the sample's shape keeps them.

    Returns:
        How many; none where the shape has no such table.
    """
    names = COLUMNS[table].split()
    if sample.shape not in OTHER_SHAPES:
        return db.insert_many(table, names, rows)
    if not sample.has(table):
        return 0
    kept = OTHER_SHAPES[sample.shape][table]
    told = (dict(zip(names, row, strict=True)) for row in rows)
    return db.insert_many(
        table,
        list(kept),
        ([row[of] if isinstance(of, str) else of(row) for of in kept.values()] for row in told),
    )
