-- The chat database of YAAI's document, with its full-text index, which reads columns of messages that do not
-- exist.
CREATE TABLE chats (
  id TEXT PRIMARY KEY,
  title TEXT NOT NULL,
  prompt_id TEXT,
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
  parent_id TEXT,
  is_liked INTEGER DEFAULT 0
);

CREATE INDEX idx_messages_chat_id ON messages(chat_id);
CREATE INDEX idx_messages_timestamp ON messages(timestamp);
CREATE INDEX idx_messages_branch_id ON messages(branch_id);
CREATE INDEX idx_chats_updated_at ON chats(updated_at);
CREATE INDEX idx_messages_chat_timestamp ON messages(chat_id, timestamp);
CREATE INDEX idx_chats_updated_covering ON chats(updated_at, id, title);

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

CREATE INDEX idx_attachments_message_id ON attachments(message_id);
CREATE INDEX idx_tool_calls_message_id ON tool_calls(message_id);
CREATE INDEX idx_branches_chat_id ON branches(chat_id);
CREATE INDEX idx_branches_parent_branch_id ON branches(parent_branch_id);
CREATE INDEX idx_branches_fork_message_id ON branches(fork_message_id);

CREATE VIRTUAL TABLE IF NOT EXISTS messages_fts USING fts5(
  content,
  chat_id UNINDEXED,
  message_id UNINDEXED,
  content='messages',
  content_rowid='rowid',
  tokenize='porter unicode61'
);

CREATE TRIGGER messages_ai AFTER INSERT ON messages BEGIN
  INSERT INTO messages_fts(rowid, content, chat_id, message_id)
  VALUES (NEW.rowid, NEW.content, NEW.chat_id, NEW.id);
END;

CREATE TRIGGER messages_ad AFTER DELETE ON messages BEGIN
  INSERT INTO messages_fts(messages_fts, rowid, content, chat_id, message_id)
  VALUES ('delete', OLD.rowid, OLD.content, OLD.chat_id, OLD.id);
END;

CREATE TRIGGER messages_au AFTER UPDATE ON messages BEGIN
  INSERT INTO messages_fts(messages_fts, rowid, content, chat_id, message_id)
  VALUES ('delete', OLD.rowid, OLD.content, OLD.chat_id, OLD.id);
  INSERT INTO messages_fts(rowid, content, chat_id, message_id)
  VALUES (NEW.rowid, NEW.content, NEW.chat_id, NEW.id);
END;
