-- Projects of work on code, comments on their files, and what each tool may do.

-- Up
create table if not exists claude_projects (
    id text primary key,
    project_path text not null unique,
    title text not null,
    description text,
    session_count integer default 0,
    last_session_id text,
    is_pinned integer not null default 0,
    is_archived integer not null default 0,
    last_interacted_at text,
    last_synced_at text,
    created_at text not null default (datetime('now')),
    updated_at text not null default (datetime('now'))
);

create table if not exists review_comments (
    id text primary key,
    session_id text not null,
    file_path text not null,
    start_line integer not null,
    end_line integer,
    content text not null,
    status text not null default 'pending' check (status in ('pending', 'sent', 'resolved', 'dismissed')),
    created_at text not null default (datetime('now')),
    sent_at text,
    resolved_at text
);

create table if not exists tool_permissions (
    id text primary key,
    tool_name text not null unique,
    permission text not null default 'ask' check (permission in ('ask', 'allow', 'deny')),
    last_used_at text,
    use_count integer default 0,
    created_at text not null default (datetime('now')),
    updated_at text not null default (datetime('now'))
);

create index if not exists idx_claude_projects_last_interacted on claude_projects (last_interacted_at desc);
create index if not exists idx_claude_projects_pinned on claude_projects (is_pinned);
create index if not exists idx_claude_projects_archived on claude_projects (is_archived);
create index if not exists idx_claude_projects_path on claude_projects (project_path);
create index if not exists idx_review_comments_session on review_comments (session_id);
create index if not exists idx_review_comments_session_file on review_comments (session_id, file_path);
create index if not exists idx_review_comments_status on review_comments (status);
create index if not exists idx_tool_permissions_name on tool_permissions (tool_name);

create trigger if not exists claude_projects_updated after update on claude_projects begin
    update claude_projects set updated_at = datetime('now') where id = new.id;
end;

create trigger if not exists tool_permissions_updated after update on tool_permissions begin
    update tool_permissions set updated_at = datetime('now') where id = new.id;
end;
