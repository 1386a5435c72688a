-- Larder: an invented app that shares no name with Flashpoint Web.

CREATE TABLE members (
  member_uuid TEXT NOT NULL PRIMARY KEY,
  handle TEXT NOT NULL UNIQUE,
  mail TEXT NOT NULL UNIQUE,
  secret_hash TEXT NOT NULL,
  kind TEXT NOT NULL DEFAULT 'guest' CHECK (kind IN ('cook', 'chief', 'guest')),
  enabled INTEGER NOT NULL DEFAULT 1,
  joined_ms INTEGER NOT NULL,
  changed_ms INTEGER NOT NULL,
  seen_ms INTEGER
);

CREATE TABLE member_logins (
  id INTEGER PRIMARY KEY,
  member_uuid TEXT NOT NULL REFERENCES members (member_uuid) ON DELETE CASCADE,
  token TEXT NOT NULL UNIQUE,
  ends_ms INTEGER NOT NULL
);

CREATE TABLE recipes (
  recipe_uuid TEXT NOT NULL PRIMARY KEY,
  member_uuid TEXT NOT NULL REFERENCES members (member_uuid) ON DELETE CASCADE,
  title TEXT NOT NULL,
  body TEXT NOT NULL,
  cuisine TEXT,
  added_ms INTEGER NOT NULL,
  "a ""pinch""" TEXT
);

CREATE TABLE recipe_labels (
  recipe_uuid TEXT NOT NULL REFERENCES recipes (recipe_uuid) ON DELETE CASCADE,
  label TEXT NOT NULL,
  PRIMARY KEY (recipe_uuid, label)
);

CREATE TABLE "order" (
  "group" INTEGER PRIMARY KEY,
  recipe_uuid TEXT NOT NULL REFERENCES recipes (recipe_uuid) ON DELETE CASCADE,
  "index" INTEGER NOT NULL
);

CREATE TABLE tallies (
  cook TEXT NOT NULL PRIMARY KEY,
  dishes INTEGER NOT NULL,
  first_ms INTEGER,
  counted_ms INTEGER
);

CREATE TABLE options (
  name TEXT NOT NULL PRIMARY KEY,
  val TEXT,
  val_kind TEXT NOT NULL,
  rule TEXT,
  open INTEGER NOT NULL DEFAULT 0,
  set_ms INTEGER,
  set_by TEXT REFERENCES members (member_uuid) ON DELETE SET NULL
);

CREATE TABLE history (
  id INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  who TEXT,
  verb TEXT NOT NULL,
  subject TEXT,
  note TEXT
);

INSERT INTO members VALUES
  ('a1b7c0de-0000-4000-8000-000000000001', 'pip', 'pip@larder.example', :password_hash, 'chief', 1, 1700000000000, 1700000000000, 1750000000123),
  ('a1b7c0de-0000-4000-8000-000000000002', 'ana', 'ana@larder.example', :password_hash, 'cook', 1, 1710000000000, 1715000000000, 1740000000000),
  ('a1b7c0de-0000-4000-8000-000000000003', '木下', 'kinoshita@larder.example', :password_hash, 'cook', 1, 1720000000000, 1720000000000, NULL),
  ('a1b7c0de-0000-4000-8000-000000000004', 'olav', 'olav@larder.example', :password_hash, 'guest', 0, 1730000000000, 1730000000000, NULL);

INSERT INTO member_logins (member_uuid, token, ends_ms) VALUES
  ('a1b7c0de-0000-4000-8000-000000000001', 'larder-token-one', 4102444800000),
  ('a1b7c0de-0000-4000-8000-000000000002', 'larder-token-two', 4102444800000),
  ('a1b7c0de-0000-4000-8000-000000000002', 'larder-token-three', 1600000000000);

INSERT INTO recipes VALUES
  ('b2c8d1ef-0000-4000-8000-000000000001', 'a1b7c0de-0000-4000-8000-000000000002', 'Lentil Soup', 'Simmer lentils with cumin.', 'levantine', 1711000000000, 'salt'),
  ('b2c8d1ef-0000-4000-8000-000000000002', 'a1b7c0de-0000-4000-8000-000000000002', '100% Rye Bread', 'Rye, water, salt, patience.', 'nordic', 1712000000000, NULL),
  ('b2c8d1ef-0000-4000-8000-000000000003', 'a1b7c0de-0000-4000-8000-000000000003', '親子丼', 'Chicken and egg over rice.', 'japanese', 1721000000000, ''),
  ('b2c8d1ef-0000-4000-8000-000000000004', 'a1b7c0de-0000-4000-8000-000000000001', 'Pip''s "Best" Lentils', 'Lentils [bold]again[/bold].', NULL, 1731000000000, 'sugar');

INSERT INTO recipe_labels VALUES
  ('b2c8d1ef-0000-4000-8000-000000000001', 'soup'),
  ('b2c8d1ef-0000-4000-8000-000000000001', 'vegan'),
  ('b2c8d1ef-0000-4000-8000-000000000002', 'bread'),
  ('b2c8d1ef-0000-4000-8000-000000000002', 'vegan'),
  ('b2c8d1ef-0000-4000-8000-000000000004', 'vegan');

INSERT INTO "order" VALUES
  (1, 'b2c8d1ef-0000-4000-8000-000000000002', 1),
  (2, 'b2c8d1ef-0000-4000-8000-000000000001', 2);

INSERT INTO tallies VALUES
  ('a1b7c0de-0000-4000-8000-000000000001', 1, 1731000000000, NULL),
  ('a1b7c0de-0000-4000-8000-000000000002', 2, 1600000000000, NULL),
  ('a1b7c0de-0000-4000-8000-000000000003', 1, 1721000000000, NULL);

INSERT INTO options VALUES
  ('kitchen.title', 'The Larder', 'text', '{"type":"string","minLength":1,"maxLength":40}', 1, 1700000000000, NULL),
  ('kitchen.closed', '0', 'flag', '{"type":"boolean"}', 1, 1700000000000, NULL),
  ('limits.servings', '4', 'whole', '{"type":"integer","minimum":1,"maximum":50}', 0, 1705000000000, 'a1b7c0de-0000-4000-8000-000000000001'),
  ('limits.units', '["g","ml"]', 'tree', '{"type":"array"}', 0, NULL, NULL);

INSERT INTO history (at_ms, who, verb, subject, note) VALUES
  (1700000000000, 'pip', 'opened', 'kitchen', NULL),
  (1711000000000, 'ana', 'wrote', 'recipe', 'Lentil Soup');
