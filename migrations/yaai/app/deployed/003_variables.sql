-- Variables of prompts: fixed values, wildcards, answers of REST services and results of scripts, with trial runs.

-- Up
create table if not exists variables (
    id text primary key,
    name text not null unique,
    type text not null check (type in ('system', 'app-level', 'wildcard', 'rest-api', 'javascript')),
    scope text not null check (scope in ('system', 'app', 'chat')),
    description text,
    is_enabled integer not null default 1 check (is_enabled in (0, 1)),
    created_at text not null default (datetime('now')),
    updated_at text not null default (datetime('now')),
    value text,
    wildcard_options text,
    wildcard_allow_duplicates integer default 0,
    wildcard_cache_duration integer,
    rest_method text check (rest_method in ('GET', 'POST', 'PUT', 'PATCH', 'DELETE')),
    rest_url text,
    rest_headers text,
    rest_body text,
    rest_auth_type text check (rest_auth_type in ('bearer', 'basic', 'api-key')),
    rest_auth_value text,
    rest_auth_key_name text,
    rest_timeout integer default 10000,
    rest_retries integer default 1,
    rest_cache_enabled integer default 0,
    rest_cache_duration integer,
    rest_response_parser_type text check (rest_response_parser_type in ('text', 'json-path', 'regex')),
    rest_response_parser_selector text,
    rest_response_parser_default text,
    js_code text,
    js_timeout integer default 5000
);

create table if not exists variable_tests (
    id text primary key,
    variable_id text not null references variables (id) on delete cascade,
    success integer not null check (success in (0, 1)),
    data text,
    error text,
    duration integer,
    tested_at text not null default (datetime('now'))
);

create index if not exists idx_variables_name on variables (name);
create index if not exists idx_variables_type on variables (type);
create index if not exists idx_variables_scope on variables (scope);
create index if not exists idx_variables_enabled on variables (is_enabled);
create index if not exists idx_variable_tests_var on variable_tests (variable_id, tested_at desc);
