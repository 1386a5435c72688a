-- Larder on MySQL and MariaDB, with common types of these engines: an enum, tinyint(1), JSON, and both types of time.

CREATE TABLE members (
  member_uuid char(36) PRIMARY KEY,
  handle varchar(20) NOT NULL UNIQUE,
  mail varchar(190) NOT NULL UNIQUE,
  secret_hash text NOT NULL,
  kind enum('guest', 'cook', 'chief') NOT NULL DEFAULT 'guest',
  enabled tinyint(1) NOT NULL DEFAULT 1,
  joined_ms bigint NOT NULL,
  changed_ms datetime(3) NOT NULL,
  seen_ms timestamp(3) NULL
);

CREATE TABLE member_logins (
  id integer AUTO_INCREMENT PRIMARY KEY,
  member_uuid char(36) NOT NULL,
  token varchar(190) NOT NULL UNIQUE,
  ends_ms datetime NOT NULL,
  FOREIGN KEY (member_uuid) REFERENCES members (member_uuid) ON DELETE CASCADE
);

CREATE TABLE recipes (
  recipe_uuid char(36) PRIMARY KEY,
  member_uuid char(36) NOT NULL,
  title text NOT NULL,
  body text NOT NULL,
  cuisine text,
  added_ms bigint NOT NULL,
  "a ""pinch""" text,
  FOREIGN KEY (member_uuid) REFERENCES members (member_uuid) ON DELETE CASCADE
);

CREATE TABLE recipe_labels (
  recipe_uuid char(36) NOT NULL,
  label varchar(40) NOT NULL,
  PRIMARY KEY (recipe_uuid, label),
  FOREIGN KEY (recipe_uuid) REFERENCES recipes (recipe_uuid) ON DELETE CASCADE
);

CREATE TABLE "order" (
  "group" integer PRIMARY KEY,
  recipe_uuid char(36) NOT NULL,
  "index" integer NOT NULL,
  FOREIGN KEY (recipe_uuid) REFERENCES recipes (recipe_uuid) ON DELETE CASCADE
);

CREATE TABLE tallies (
  cook char(36) PRIMARY KEY,
  dishes integer NOT NULL,
  first_ms bigint,
  counted_ms bigint
);

CREATE TABLE options (
  name varchar(190) NOT NULL PRIMARY KEY,
  val text,
  val_kind text NOT NULL,
  rule json,
  open tinyint(1) NOT NULL DEFAULT 0,
  set_ms bigint,
  set_by char(36),
  FOREIGN KEY (set_by) REFERENCES members (member_uuid) ON DELETE SET NULL
);

CREATE TABLE history (
  id integer AUTO_INCREMENT PRIMARY KEY,
  at_ms bigint NOT NULL,
  who text,
  verb text NOT NULL,
  subject text,
  note text
);

INSERT INTO members VALUES
  ('a1b7c0de-0000-4000-8000-000000000001', 'pip', 'pip@larder.example', :password_hash, 'chief', true, 1700000000000, '2023-11-14 22:13:20.000', '2025-06-15 15:06:40.123'),
  ('a1b7c0de-0000-4000-8000-000000000002', 'ana', 'ana@larder.example', :password_hash, 'cook', true, 1710000000000, '2024-05-06 12:53:20.000', '2025-02-19 21:20:00.000'),
  ('a1b7c0de-0000-4000-8000-000000000003', '木下', 'kinoshita@larder.example', :password_hash, 'cook', true, 1720000000000, '2024-07-03 09:46:40.000', NULL),
  ('a1b7c0de-0000-4000-8000-000000000004', 'olav', 'olav@larder.example', :password_hash, 'guest', false, 1730000000000, '2024-10-27 03:33:20.000', NULL);

INSERT INTO member_logins (member_uuid, token, ends_ms) VALUES
  ('a1b7c0de-0000-4000-8000-000000000001', 'larder-token-one', '2100-01-01 00:00:00.000'),
  ('a1b7c0de-0000-4000-8000-000000000002', 'larder-token-two', '2100-01-01 00:00:00.000'),
  ('a1b7c0de-0000-4000-8000-000000000002', 'larder-token-three', '2020-09-13 12:26:40.000');

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
  ('kitchen.title', 'The Larder', 'text', '{"type":"string","minLength":1,"maxLength":40}', true, 1700000000000, NULL),
  ('kitchen.closed', '0', 'flag', '{"type":"boolean"}', true, 1700000000000, NULL),
  ('limits.servings', '4', 'whole', '{"type":"integer","minimum":1,"maximum":50}', false, 1705000000000, 'a1b7c0de-0000-4000-8000-000000000001'),
  ('limits.units', '["g","ml"]', 'tree', '{"type":"array"}', false, NULL, NULL);

INSERT INTO history (at_ms, who, verb, subject, note) VALUES
  (1700000000000, 'pip', 'opened', 'kitchen', NULL),
  (1711000000000, 'ana', 'wrote', 'recipe', 'Lentil Soup');
