"""The columns of the documented schema: seven tables, some of whose columns have other names than in deployments."""

from __future__ import annotations

from collections.abc import Callable, Mapping

#: For each column, its source in a row of a deployment: a column, or a function of the row.
ColumnMapping = Mapping[str, str | Callable[[Mapping[str, object]], object]]


def _same_columns(names: str) -> dict[str, str]:
    return {name: name for name in names.split()}


def _session_name(row: Mapping[str, object]) -> object:
    return row["name"] or row["client_id"]  # required, and unique per user


def _session_status(row: Mapping[str, object]) -> str:
    if not row["is_active"]:
        return "disconnected"
    return "ready" if row["is_ready"] else "connecting"


def _media_type(row: Mapping[str, object]) -> str | None:
    return "image" if row["has_media"] else None


def _error_message(row: Mapping[str, object]) -> str | None:
    return "the number is not on WhatsApp" if row["status"] == "failed" else None


def _recipient_status(row: Mapping[str, object]) -> str:
    return "active" if row["is_active"] else "blocked"


DOCUMENT: Mapping[str, ColumnMapping] = {
    "users": _same_columns("id email password_hash name role is_active last_login_at created_at updated_at"),
    "whatsapp_sessions": {
        **_same_columns("id user_id phone_number session_data created_at updated_at"),
        "session_name": _session_name,
        "status": _session_status,
    },
    "recipients": {
        **_same_columns("id user_id name email custom_fields created_at updated_at"),
        "phone_number": "phone",
        "status": _recipient_status,
    },
    "groups": _same_columns("id user_id name description created_at updated_at"),
    "recipient_groups": _same_columns("id recipient_id group_id created_at"),
    "messages": {
        **_same_columns("id session_id user_id message_id status created_at updated_at"),
        "phone_number": "to_phone",
        "message_text": "body",
        "media_type": _media_type,
        "ack_status": "ack_code",
        "error_message": _error_message,
    },
    "campaigns": _same_columns(
        "id session_id user_id name message_template status total_recipients sent_count failed_count started_at"
        " completed_at created_at updated_at"
    ),
}
