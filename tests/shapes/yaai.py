"""Databases of YAAI in the document and the deployed variant, with a few chats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dbctl.config.environment import bundled_folder
from tests.databases import create_database

FOLDER = Path(__file__).parent
#: An invented key; no output may contain it.
KEY = "sk-not-a-real-key-5521"
PROXY = "not-a-real-password-77"
LEDGER = """create table _migrations (
    version integer primary key, name text not null, applied_at text not null default (datetime('now'))
)"""

GARDEN, PARSER = "c0000000-0000-4000-8000-000000000001", "c0000000-0000-4000-8000-000000000002"
QUESTION, ANSWER, FOLLOW_UP, CODE, REPLY = (
    f"a0000000-0000-4000-8000-00000000000{number}" for number in range(1, 6)
)
BRANCH = "b0000000-0000-4000-8000-000000000001"
SESSION = "d0000000-0000-4000-8000-000000000001"

Rows = Mapping[str, Sequence[Mapping[str, object]]]

CHAT: Rows = {
    "chats": [
        {"id": GARDEN, "title": "A garden", "created_at": "2026-03-01T10:00:00.000Z", "updated_at": "2026-03-01T12:00:00.000Z"},
        {"id": PARSER, "title": "The parser", "created_at": "2026-03-02T10:00:00.000Z", "updated_at": "2026-03-02T12:00:00.000Z"},
    ],
    "messages": [
        {"id": QUESTION, "chat_id": GARDEN, "role": "user", "content": "Which vegetables fit a bed of four square metres?", "timestamp": "2026-03-01T10:00:00.000Z"},
        {"id": ANSWER, "chat_id": GARDEN, "role": "assistant", "content": '[{"type":"text","text":"Carrots and \\"salad\\", planted early 🥕"},{"type":"tool_use","id":"t1","name":"web"}]', "model": "sonnet", "token_count": 40, "generation_time": 900, "timestamp": "2026-03-01T10:00:05.000Z", "parent_id": QUESTION, "is_liked": 1},
        {"id": FOLLOW_UP, "chat_id": GARDEN, "role": "assistant", "content": "Radishes, if planting is late", "model": "haiku", "token_count": 20, "generation_time": 300, "timestamp": "2026-03-01 11:00:00", "parent_id": QUESTION, "branch_id": BRANCH},
        {"id": CODE, "chat_id": PARSER, "role": "user", "content": "Why does foo-bar: NEAR(x) fail? See *.py", "timestamp": "2026-03-02T10:00:00.000Z"},
        {"id": REPLY, "chat_id": PARSER, "role": "assistant", "content": "Plant a breakpoint at the colon.", "model": "sonnet", "token_count": 12, "generation_time": 200, "timestamp": "2026-03-02T10:00:09.000Z", "parent_id": CODE},
    ],
    "branches": [{"id": BRANCH, "chat_id": GARDEN, "fork_message_id": QUESTION, "name": "later", "created_at": "2026-03-01T10:59:00.000Z"}],
    "attachments": [{"id": "e1", "message_id": QUESTION, "name": "bed.png", "mime_type": "image/png", "size": 2048}],
    "tool_calls": [
        {"id": "f1", "message_id": ANSWER, "name": "web", "input": "{}", "output": "{}", "status": "success", "started_at": "2026-03-01T10:00:01.000Z", "completed_at": "2026-03-01T10:00:03.000Z"},
        {"id": "f2", "message_id": REPLY, "name": "shell", "input": "{}", "status": "running", "started_at": "2026-03-02T10:00:04.000Z"},
    ],
}  # fmt: skip
APP: Rows = {
    "settings": [{"key": "theme", "value": "dark"}, {"key": "fontSize", "value": "14"}],
    "credentials": [
        {"id": "anthropic", "api_key_encrypted": KEY},
        {"id": "openai", "api_key_encrypted": '{"encrypted":"00ff","iv":"00","authTag":"11"}'},
    ],
}
ARTIFACTS: Rows = {
    "artifacts": [
        {"id": "g1", "name": "Bed plan", "type": "svg", "description": "Where each row goes", "path": "artifacts/bed.svg", "size": 512, "chat_id": GARDEN},
        {"id": "g2", "name": "Parser", "type": "code", "path": "artifacts/parser.py", "size": 9000, "session_id": SESSION},
    ]
}  # fmt: skip
SESSIONS: Rows = {
    "sessions": [{"id": SESSION, "title": "Mend the parser", "project_path": "/home/ada/parser", "chat_id": PARSER, "status": "completed"}],
    "transcript_entries": [
        {"id": "h1", "session_id": SESSION, "position": 1, "role": "user", "content": "Mend it"},
        {"id": "h2", "session_id": SESSION, "position": 2, "role": "assistant", "content": "Done"},
    ],
    "snapshots": [{"id": "i1", "session_id": SESSION, "entry_id": "h2", "file_path": "parser.py", "content_hash": "ab12", "size": 9000}],
}  # fmt: skip
IMAGES: Rows = {
    "prompts": [{"id": "p1", "name": "Watercolour", "content": "In watercolour", "use_count": 3}],
    "queue_entries": [{"id": "q1", "prompt": "A bed of carrots", "status": "done"}, {"id": "q2", "prompt": "A parser at work"}],
    "jobs": [
        {"id": "j1", "queue_entry_id": "q1", "prompt_id": "p1", "model": "paint-1", "status": "completed"},
        {"id": "j2", "queue_entry_id": "q2", "model": "paint-1", "status": "pending"},
    ],
    "images": [{"id": "m1", "job_id": "j1", "path": "image-gen/outputs/m1.png", "width": 512, "height": 512, "size": 70000}],
}  # fmt: skip
PROXIES: Rows = {
    "proxy_configs": [
        {"id": "x1", "nickname": "office", "type": "http", "hostname": "proxy.example", "port": 3128, "password": PROXY, "is_active": 1, "created_at": "2026-03-01T10:00:00.000Z", "updated_at": "2026-03-01T10:00:00.000Z"}
    ],
    "drafts": [
        {"project_id": GARDEN, "project_type": "chat", "content": "And then", "updated_at": "2026-01-01T10:00:00.000Z"},
        {"project_id": PARSER, "project_type": "chat", "content": "Just now", "updated_at": "2999-01-01T10:00:00.000Z"},
    ],
}  # fmt: skip
MEMORY: Rows = {
    "l1_river": [
        {"id": "r1", "chat_id": GARDEN, "message_id": ANSWER, "content": "Carrots", "token_count": 1}
    ],
    "l3_vectors": [
        {
            "id": "v1",
            "chat_id": GARDEN,
            "message_id": ANSWER,
            "content_hash": "cd34",
            "embedding_blob": b"\0" * 12,
            "embedding_model": "small",
            "dimensions": 3,
        }
    ],
    "l4_salience": [
        {"id": "s1", "chat_id": GARDEN, "message_id": ANSWER, "content": "Carrots", "salience_score": 0.8}
    ],
}


#: The migrations that a deployment has applied; its app database has applied one of the two files with number 6.
DEPLOYED = {
    "chat": ["001_initial", "002_response_groups", "003_project_metadata", "004_research", "005_claude_projects"],
    "app": ["001_initial", "002_custom_providers", "003_variables", "004_proxy_configs", "005_image_models", "006_drafts", "007_model_capabilities"],
    "memory": ["001_initial"],
}  # fmt: skip


def up(name: str, shape: str = "document") -> str:
    """Return the up script of a shipped migration, for example of ``chat/001_initial``."""
    return _text(name, shape).partition("-- Up\n")[2].partition("-- Down\n")[0]


def down(name: str) -> str:
    """Return the down script of a shipped migration."""
    return _text(name, "document").partition("-- Down\n")[2]


def _text(name: str, shape: str) -> str:
    database, _, file = name.partition("/")
    folder = bundled_folder("migrations") / "yaai" / database
    path = folder / shape if (folder / shape).is_dir() else folder
    return (path / f"{file}.sql").read_text(encoding="utf-8")


def ledger_script(names: Iterable[str]) -> str:
    """Return the script of the ledger that the app writes for these migrations."""
    rows = "".join(
        f"insert into _migrations (version, name) values ({int(name[:3])}, '{name[4:]}');" for name in names
    )
    return f"{LEDGER}; {rows}"


def document(home: Path) -> dict[str, Path]:
    """Create the four databases of the document below ``home``."""
    names = {
        "chat": ["001_initial", "002_add_branches", "003_add_fts"],
        "code": ["001_initial", "002_add_snapshots"],
        "imagegen": ["001_initial", "002_add_prompts"],
        "app": ["001_initial", "002_add_artifacts"],
    }
    rows = {"chat": [CHAT], "code": [SESSIONS], "imagegen": [IMAGES], "app": [APP, ARTIFACTS]}
    scripts = {
        name: (FOLDER / "yaai-document-chat.sql").read_text(encoding="utf-8")
        if name == "chat"
        else "".join(up(f"{name}/{file}") for file in files)
        for name, files in names.items()
    }
    return {
        name: create_database(
            home / f"db/{name}.sqlite", scripts[name] + ledger_script(names[name]), *rows[name]
        )
        for name in names
    }


def printed_chat(path: Path) -> Path:
    """Create a chat database with only the tables, indexes and triggers whose SQL the document prints."""
    text = (FOLDER / "yaai-document-chat.sql").read_text(encoding="utf-8")
    tables, _, rest = text.partition("CREATE INDEX idx_chats_updated_at")
    return create_database(path, tables + rest[rest.index("CREATE VIRTUAL TABLE") :])


def deployed(home: Path, *, memory: bool = True) -> dict[str, Path]:
    """Create the databases of a deployment below ``home``, including the two that it opens but does not use."""
    rows = {"chat": [CHAT], "app": [APP, PROXIES], "memory": [MEMORY] if memory else []}
    paths = {
        name: create_database(home / f"db/{name}.sqlite", deployed_script(name), *rows[name])
        for name in DEPLOYED
        if rows[name]
    }
    for name in ("code", "imagegen"):
        create_database(home / f"db/{name}.sqlite", LEDGER)
    return paths


def deployed_script(database: str) -> str:
    """Return the script of an empty database of a deployment, with its ledger."""
    names = DEPLOYED[database]
    return "".join(up(f"{database}/{name}", "deployed") for name in names) + ledger_script(names)


def create_files(home: Path) -> None:
    """Create the app's files, and some that a backup does not include."""
    texts = {
        "secrets/encryption.key": "0" * 32,
        "settings.json": '{"theme": "dark"}',
        "credentials/mail.json": "{}",
        "artifacts/bed.svg": "<svg/>",
        "snapshots/objects/ab/ab12": "x",
        "chats/1/messages.json": "[]",
        "temp/scratch": "x",
        "logs/app.log": "x",
        "cache/x": "x",
    }
    for name, text in texts.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    (home / "secrets/encryption.key").chmod(0o600)
