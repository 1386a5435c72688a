-- What else a model can do, and its icon.

-- Up
alter table user_models add column supports_reasoning integer not null default 0;
alter table user_models add column supports_search integer not null default 0;
alter table user_models add column supports_code integer not null default 0;
alter table user_models add column supports_files integer not null default 0;
alter table user_models add column icon text;
