-- Drafts: what the user has typed in a project and not sent.
--
-- Another file of the app has the number 6, too. A database runs one of them; the app adds the columns of the other by itself.

-- Up
create table if not exists drafts (
    project_id text primary key,
    project_type text not null check (project_type in ('chat', 'code', 'image', 'research')),
    content text not null default '',
    selected_model text,
    attachments text,
    metadata text,
    created_at text not null default (datetime('now')),
    updated_at text not null default (datetime('now'))
);

create index if not exists idx_drafts_project_type on drafts (project_type);
create index if not exists idx_drafts_updated_at on drafts (updated_at desc);
