-- Branches: where a chat goes on from one of its messages in another way.

-- Up
create table if not exists branches (
    id text primary key,
    chat_id text not null references chats (id) on delete cascade,
    parent_branch_id text references branches (id) on delete set null,
    fork_message_id text not null references messages (id) on delete cascade,
    name text,
    created_at text not null default (datetime('now'))
);

create index if not exists idx_branches_chat_id on branches (chat_id);
create index if not exists idx_branches_parent_branch_id on branches (parent_branch_id);
create index if not exists idx_branches_fork_message_id on branches (fork_message_id);

-- Down
drop table if exists branches;
