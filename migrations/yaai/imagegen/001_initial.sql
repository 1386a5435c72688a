-- What is to be drawn, the work on it, and the images that came of it.

-- Up
create table if not exists reference_groups (
    id text primary key,
    name text not null,
    paths text not null default '[]',
    created_at text not null default (datetime('now'))
);

create table if not exists queue_entries (
    id text primary key,
    prompt text not null,
    reference_group_id text references reference_groups (id) on delete set null,
    priority integer not null default 0,
    status text not null default 'queued' check (status in ('queued', 'running', 'done', 'failed')),
    created_at text not null default (datetime('now'))
);

create table if not exists jobs (
    id text primary key,
    queue_entry_id text not null references queue_entries (id) on delete cascade,
    prompt_id text,
    model text not null,
    status text not null default 'pending'
        check (status in ('pending', 'running', 'completed', 'failed', 'cancelled')),
    error text,
    created_at text not null default (datetime('now')),
    started_at text,
    completed_at text
);

create table if not exists images (
    id text primary key,
    job_id text not null references jobs (id) on delete cascade,
    path text not null,
    width integer not null,
    height integer not null,
    seed integer,
    size integer not null,
    created_at text not null default (datetime('now'))
);

create index if not exists idx_queue_entries_reference_group_id on queue_entries (reference_group_id);
create index if not exists idx_jobs_queue_entry_id on jobs (queue_entry_id);
create index if not exists idx_jobs_pending on jobs (created_at) where status = 'pending';
create index if not exists idx_images_job_id on images (job_id);
create index if not exists idx_images_created_at on images (created_at);

-- Down
drop table if exists images;
drop table if exists jobs;
drop table if exists queue_entries;
drop table if exists reference_groups;
