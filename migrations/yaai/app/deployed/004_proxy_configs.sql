-- Proxies, of which at most one is active, and the results of their health checks.

-- Up
create table if not exists proxy_configs (
    id text primary key,
    nickname text not null unique,
    type text not null check (type in ('http', 'socks5')),
    hostname text not null,
    port integer not null check (port >= 1 and port <= 65535),
    username text,
    password text,
    is_active integer not null default 0 check (is_active in (0, 1)),
    created_at text not null,
    updated_at text not null
);

create table if not exists proxy_health_checks (
    id text primary key,
    proxy_id text not null references proxy_configs (id) on delete cascade,
    status text not null check (status in ('healthy', 'degraded', 'failed')),
    outbound_ip text,
    user_ip text,
    error_message text,
    checked_at text not null
);

create unique index if not exists idx_proxy_active on proxy_configs (is_active) where is_active = 1;
create index if not exists idx_proxy_health_recent on proxy_health_checks (proxy_id, checked_at desc);

create trigger if not exists proxy_activate before update of is_active on proxy_configs when new.is_active = 1 begin
    update proxy_configs set is_active = 0 where is_active = 1 and id != new.id;
end;
