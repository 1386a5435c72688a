-- Prompts that are kept to be used again.

-- Up
create table if not exists prompts (
    id text primary key,
    name text not null,
    content text not null,
    use_count integer not null default 0,
    last_used_at text,
    created_at text not null default (datetime('now')),
    updated_at text not null default (datetime('now'))
);

create index if not exists idx_prompts_name on prompts (name);
create index if not exists idx_jobs_prompt_id on jobs (prompt_id);

-- Down
drop index if exists idx_jobs_prompt_id;
drop table if exists prompts;
