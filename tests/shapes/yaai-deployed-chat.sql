-- The chats of YAAI as a deployment has them: five migrations, and an index for searching whose triggers let no message go.
CREATE TABLE chats (
  id TEXT PRIMARY KEY,
  title TEXT NOT NULL,
  prompt_id TEXT,
  default_model TEXT,
  created_at TEXT NOT NULL DEFAULT (datetime('now')),
  updated_at TEXT NOT NULL DEFAULT (datetime('now')),
  last_interacted_at TEXT,
  is_pinned INTEGER NOT NULL DEFAULT 0,
  is_archived INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE response_groups (
  id TEXT PRIMARY KEY,
  chat_id TEXT NOT NULL REFERENCES chats(id) ON DELETE CASCADE,
  user_message_id TEXT NOT NULL REFERENCES messages(id) ON DELETE CASCADE,
  selected_response_id TEXT REFERENCES messages(id) ON DELETE SET NULL,
  created_at TEXT NOT NULL DEFAULT (datetime('now')),
  updated_at TEXT NOT NULL DEFAULT (datetime('now'))
);

CREATE TABLE messages (
  id TEXT PRIMARY KEY,
  chat_id TEXT NOT NULL REFERENCES chats(id) ON DELETE CASCADE,
  role TEXT NOT NULL CHECK (role IN ('user', 'assistant', 'system')),
  content TEXT NOT NULL,
  model TEXT,
  token_count INTEGER,
  generation_time INTEGER,
  timestamp TEXT NOT NULL DEFAULT (datetime('now')),
  branch_id TEXT,
  parent_id TEXT REFERENCES messages(id) ON DELETE SET NULL,
  is_liked INTEGER NOT NULL DEFAULT 0,
  metadata TEXT,
  response_group_id TEXT REFERENCES response_groups(id) ON DELETE SET NULL
);

CREATE TABLE attachments (
  id TEXT PRIMARY KEY,
  message_id TEXT NOT NULL REFERENCES messages(id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  mime_type TEXT NOT NULL,
  size INTEGER NOT NULL,
  storage_path TEXT,
  url TEXT,
  metadata TEXT
);

CREATE TABLE tool_calls (
  id TEXT PRIMARY KEY,
  message_id TEXT NOT NULL REFERENCES messages(id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  input TEXT NOT NULL,
  output TEXT,
  status TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'success', 'error')),
  error TEXT,
  started_at TEXT,
  completed_at TEXT
);

CREATE TABLE branches (
  id TEXT PRIMARY KEY,
  chat_id TEXT NOT NULL REFERENCES chats(id) ON DELETE CASCADE,
  parent_branch_id TEXT REFERENCES branches(id) ON DELETE SET NULL,
  fork_message_id TEXT NOT NULL REFERENCES messages(id) ON DELETE CASCADE,
  name TEXT,
  created_at TEXT NOT NULL DEFAULT (datetime('now'))
);

CREATE TABLE response_group_members (
  response_group_id TEXT NOT NULL REFERENCES response_groups(id) ON DELETE CASCADE,
  message_id TEXT NOT NULL REFERENCES messages(id) ON DELETE CASCADE,
  position INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (response_group_id, message_id)
);

CREATE TABLE research_sessions (
  id TEXT PRIMARY KEY,
  query TEXT NOT NULL,
  depth_profile TEXT NOT NULL CHECK (depth_profile IN ('light', 'general', 'exhaustive')),
  status TEXT NOT NULL DEFAULT 'idle' CHECK (status IN ('idle', 'initializing', 'scouting', 'reading', 'synthesizing',
    'paused', 'completed', 'failed')),
  config TEXT,
  guidance TEXT,
  stats TEXT,
  chat_id TEXT REFERENCES chats(id) ON DELETE SET NULL,
  message_id TEXT,
  error TEXT,
  created_at TEXT NOT NULL DEFAULT (datetime('now')),
  updated_at TEXT NOT NULL DEFAULT (datetime('now')),
  started_at TEXT,
  completed_at TEXT
);

CREATE TABLE claude_projects (
  id TEXT PRIMARY KEY,
  project_path TEXT NOT NULL UNIQUE,
  title TEXT NOT NULL,
  description TEXT,
  session_count INTEGER NOT NULL DEFAULT 0,
  last_session_id TEXT,
  is_pinned INTEGER NOT NULL DEFAULT 0,
  is_archived INTEGER NOT NULL DEFAULT 0,
  last_interacted_at TEXT,
  last_synced_at TEXT,
  created_at TEXT NOT NULL DEFAULT (datetime('now')),
  updated_at TEXT NOT NULL DEFAULT (datetime('now'))
);

CREATE TABLE tool_permissions (
  id TEXT PRIMARY KEY,
  tool_name TEXT NOT NULL UNIQUE,
  permission TEXT NOT NULL DEFAULT 'ask' CHECK (permission IN ('ask', 'allow', 'deny')),
  last_used_at TEXT,
  use_count INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL DEFAULT (datetime('now')),
  updated_at TEXT NOT NULL DEFAULT (datetime('now'))
);

CREATE INDEX idx_messages_chat_id ON messages(chat_id);
CREATE INDEX idx_messages_timestamp ON messages(timestamp);
CREATE INDEX idx_messages_branch_id ON messages(branch_id);
CREATE INDEX idx_attachments_message_id ON attachments(message_id);
CREATE INDEX idx_tool_calls_message_id ON tool_calls(message_id);
CREATE INDEX idx_branches_chat_id ON branches(chat_id);
CREATE INDEX idx_response_groups_chat_id ON response_groups(chat_id);

CREATE VIRTUAL TABLE IF NOT EXISTS messages_fts USING fts5(
  content,
  chat_id UNINDEXED,
  message_id UNINDEXED,
  tokenize='porter unicode61'
);

CREATE TRIGGER messages_fts_insert AFTER INSERT ON messages BEGIN
  INSERT INTO messages_fts(content, chat_id, message_id) VALUES (NEW.content, NEW.chat_id, NEW.id);
END;

CREATE TRIGGER messages_fts_delete AFTER DELETE ON messages BEGIN
  INSERT INTO messages_fts(messages_fts, rowid, content, chat_id, message_id)
  VALUES ('delete', OLD.rowid, OLD.content, OLD.chat_id, OLD.id);
END;

CREATE TRIGGER messages_fts_update AFTER UPDATE OF content ON messages BEGIN
  INSERT INTO messages_fts(messages_fts, rowid, content, chat_id, message_id)
  VALUES ('delete', OLD.rowid, OLD.content, OLD.chat_id, OLD.id);
  INSERT INTO messages_fts(content, chat_id, message_id) VALUES (NEW.content, NEW.chat_id, NEW.id);
END;

CREATE TRIGGER chat_updated_on_message AFTER INSERT ON messages BEGIN
  UPDATE chats SET updated_at = datetime('now'), last_interacted_at = datetime('now') WHERE id = NEW.chat_id;
END;

CREATE TABLE _migrations (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  applied_at TEXT NOT NULL DEFAULT (datetime('now'))
);
INSERT INTO _migrations (version, name) VALUES (1, 'initial'), (2, 'response_groups'), (3, 'project_metadata'),
  (4, 'research'), (5, 'claude_projects');
