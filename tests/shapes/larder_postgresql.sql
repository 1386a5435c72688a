-- Larder on PostgreSQL, with common types of this engine: uuid, an enum, boolean, and both types of time.

CREATE TYPE member_kind AS ENUM ('guest', 'cook', 'chief');

CREATE TABLE members (
  member_uuid uuid PRIMARY KEY,
  handle varchar(20) NOT NULL UNIQUE,
  mail text NOT NULL UNIQUE,
  secret_hash text NOT NULL,
  kind member_kind NOT NULL DEFAULT 'guest',
  enabled boolean NOT NULL DEFAULT true,
  joined_ms bigint NOT NULL,
  changed_ms timestamp NOT NULL,
  seen_ms timestamptz
);

CREATE TABLE member_logins (
  id serial PRIMARY KEY,
  member_uuid uuid NOT NULL REFERENCES members (member_uuid) ON DELETE CASCADE,
  token text NOT NULL UNIQUE,
  ends_ms timestamptz NOT NULL
);

CREATE TABLE recipes (
  recipe_uuid uuid PRIMARY KEY,
  member_uuid uuid NOT NULL REFERENCES members (member_uuid) ON DELETE CASCADE,
  title text NOT NULL,
  body text NOT NULL,
  cuisine text,
  added_ms bigint NOT NULL,
  "a ""pinch""" text
);

CREATE TABLE recipe_labels (
  recipe_uuid uuid NOT NULL REFERENCES recipes (recipe_uuid) ON DELETE CASCADE,
  label text NOT NULL,
  PRIMARY KEY (recipe_uuid, label)
);

CREATE TABLE "order" (
  "group" integer PRIMARY KEY,
  recipe_uuid uuid NOT NULL REFERENCES recipes (recipe_uuid) ON DELETE CASCADE,
  "index" integer NOT NULL
);

CREATE TABLE tallies (
  cook uuid PRIMARY KEY,
  dishes integer NOT NULL,
  first_ms bigint,
  counted_ms bigint
);

CREATE TABLE options (
  name text NOT NULL PRIMARY KEY,
  val text,
  val_kind text NOT NULL,
  rule jsonb,
  open boolean NOT NULL DEFAULT false,
  set_ms bigint,
  set_by uuid REFERENCES members (member_uuid) ON DELETE SET NULL
);

CREATE TABLE history (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at_ms bigint NOT NULL,
  who text,
  verb text NOT NULL,
  subject text,
  note text
);

INSERT INTO members VALUES
  ('a1b7c0de-0000-4000-8000-000000000001', 'pip', 'pip@larder.example', :password_hash, 'chief', true, 1700000000000, '2023-11-14 22:13:20.000+00:00', '2025-06-15 15:06:40.123+00:00'),
  ('a1b7c0de-0000-4000-8000-000000000002', 'ana', 'ana@larder.example', :password_hash, 'cook', true, 1710000000000, '2024-05-06 12:53:20.000+00:00', '2025-02-19 21:20:00.000+00:00'),
  ('a1b7c0de-0000-4000-8000-000000000003', '木下', 'kinoshita@larder.example', :password_hash, 'cook', true, 1720000000000, '2024-07-03 09:46:40.000+00:00', NULL),
  ('a1b7c0de-0000-4000-8000-000000000004', 'olav', 'olav@larder.example', :password_hash, 'guest', false, 1730000000000, '2024-10-27 03:33:20.000+00:00', NULL);

INSERT INTO member_logins (member_uuid, token, ends_ms) VALUES
  ('a1b7c0de-0000-4000-8000-000000000001', 'larder-token-one', '2100-01-01 00:00:00.000+00:00'),
  ('a1b7c0de-0000-4000-8000-000000000002', 'larder-token-two', '2100-01-01 00:00:00.000+00:00'),
  ('a1b7c0de-0000-4000-8000-000000000002', 'larder-token-three', '2020-09-13 12:26:40.000+00:00');

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
