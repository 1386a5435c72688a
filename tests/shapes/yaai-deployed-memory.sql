-- The app's memory of YAAI: nothing in it is tied to the chats that it is about.
CREATE TABLE l1_river (
  id TEXT PRIMARY KEY,
  chat_id TEXT NOT NULL,
  message_id TEXT,
  content TEXT NOT NULL,
  created_at TEXT NOT NULL DEFAULT (datetime('now')),
  evicted_at TEXT
);

CREATE TABLE l3_vectors (
  id TEXT PRIMARY KEY,
  embedding_blob BLOB NOT NULL,
  dimensions INTEGER NOT NULL
);

CREATE TABLE l4_salience (
  id TEXT PRIMARY KEY,
  message_id TEXT NOT NULL UNIQUE,
  score REAL NOT NULL
);

CREATE TABLE memory_config (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
);
INSERT INTO memory_config (key, value) VALUES ('l1_max_tokens', '8000'), ('l2_decay_rate', '0.95'), ('memory_enabled', 'true');

CREATE VIRTUAL TABLE l3_lexical_fts USING fts5(content, message_id UNINDEXED);

CREATE TABLE _migrations (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  applied_at TEXT NOT NULL DEFAULT (datetime('now'))
);
INSERT INTO _migrations (version, name) VALUES (1, 'initial');
