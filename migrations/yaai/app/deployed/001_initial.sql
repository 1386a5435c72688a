-- Credentials and settings of providers, models that the user added, and settings of the app.

-- Up
create table if not exists credentials (
    id text primary key,
    api_key_encrypted text not null,
    base_url text,
    metadata text,
    created_at text not null default (datetime('now')),
    updated_at text not null default (datetime('now'))
);

create table if not exists settings (
    key text primary key,
    value text not null,
    updated_at text not null default (datetime('now'))
);

create table if not exists provider_configs (
    id text primary key,
    enabled integer not null default 1,
    default_model text,
    base_url text,
    created_at text not null default (datetime('now')),
    updated_at text not null default (datetime('now'))
);

create table if not exists user_models (
    id text primary key,
    provider text not null,
    model_id text not null,
    display_name text not null,
    context_window integer,
    max_output integer,
    supports_vision integer not null default 0,
    supports_tools integer not null default 0,
    input_price real,
    output_price real,
    is_default integer not null default 0,
    enabled integer not null default 1,
    sort_order integer not null default 0,
    created_at text not null default (datetime('now')),
    updated_at text not null default (datetime('now')),
    unique (provider, model_id)
);

create index if not exists idx_user_models_provider on user_models (provider);
create index if not exists idx_user_models_enabled on user_models (enabled);
