-- Research: sessions, their sources and findings, contradictions between claims, and the report with its sections.

-- Up
create table if not exists research_sessions (
    id text primary key,
    query text not null,
    depth_profile text not null check (depth_profile in ('light', 'general', 'exhaustive')),
    status text not null default 'idle' check (
        status in ('idle', 'initializing', 'scouting', 'reading', 'synthesizing', 'paused', 'completed', 'failed')
    ),
    config text not null,
    guidance text not null default '{"userNotes":[],"blockedDomains":[],"preferredDomains":[],"learnedPatterns":[]}',
    stats text not null,
    chat_id text references chats (id) on delete set null,
    message_id text,
    error text,
    created_at text not null default (datetime('now')),
    updated_at text not null default (datetime('now')),
    started_at text,
    completed_at text
);

create table if not exists research_sources (
    id text primary key,
    session_id text not null references research_sessions (id) on delete cascade,
    url text not null,
    title text,
    domain text not null,
    path text,
    favicon text,
    thumbnail text,
    snippet text,
    source_type text default 'unknown' check (
        source_type in ('article', 'paper', 'documentation', 'forum', 'news', 'blog', 'video', 'unknown')
    ),
    published_at text,
    author text,
    bias text default 'unknown' check (
        bias in ('left', 'center-left', 'center', 'center-right', 'right', 'unknown')
    ),
    state text not null default 'pending' check (
        state in ('pending', 'approved', 'reading', 'complete', 'rejected', 'failed')
    ),
    state_changed_at text not null default (datetime('now')),
    discovered_by text,
    read_by text,
    providers text default '[]',
    relevance_score real default 0.5,
    credibility_score real default 0.5,
    freshness_score real default 0.5,
    provider_boost real default 0.0,
    read_progress real default 0,
    read_stage text check (read_stage is null or read_stage in ('fetching', 'parsing', 'extracting', 'complete')),
    content text,
    read_time_ms integer,
    token_count integer,
    user_comment text,
    rejection_reason text,
    error text,
    discovered_at text not null default (datetime('now')),
    approved_at text,
    completed_at text
);

create table if not exists research_findings (
    id text primary key,
    source_id text not null references research_sources (id) on delete cascade,
    session_id text not null references research_sessions (id) on delete cascade,
    content text not null,
    category text not null check (
        category in ('statistic', 'claim', 'quote', 'definition', 'methodology', 'conclusion', 'background', 'example')
    ),
    confidence real default 0.5,
    importance real default 0.5,
    page_number integer,
    paragraph integer,
    original_text text,
    extracted_at text not null default (datetime('now'))
);

create table if not exists research_contradictions (
    id text primary key,
    session_id text not null references research_sessions (id) on delete cascade,
    claim_a text not null,
    claim_b text not null,
    status text not null default 'unresolved' check (status in ('unresolved', 'resolved', 'dismissed')),
    resolution text,
    topic text,
    severity text default 'moderate' check (severity in ('minor', 'moderate', 'major')),
    detected_at text not null default (datetime('now'))
);

create table if not exists research_reports (
    id text primary key,
    session_id text not null unique references research_sessions (id) on delete cascade,
    title text not null,
    subtitle text,
    summary text,
    table_of_contents text default '[]',
    total_word_count integer default 0,
    total_citations integer default 0,
    total_contradictions integer default 0,
    created_at text not null default (datetime('now')),
    updated_at text not null default (datetime('now')),
    completed_at text
);

create table if not exists research_report_sections (
    id text primary key,
    report_id text not null references research_reports (id) on delete cascade,
    section_order integer not null,
    level integer default 1 check (level >= 1 and level <= 3),
    title text not null,
    content text,
    summary text,
    citations text default '[]',
    contradictions text default '[]',
    word_count integer default 0,
    findings_used integer default 0,
    status text not null default 'pending' check (status in ('pending', 'generating', 'complete')),
    generated_at text
);

create index if not exists idx_research_sessions_status on research_sessions (status);
create index if not exists idx_research_sessions_chat_id on research_sessions (chat_id);
create index if not exists idx_research_sessions_created_at on research_sessions (created_at desc);
create index if not exists idx_research_sources_session_id on research_sources (session_id);
create index if not exists idx_research_sources_state on research_sources (state);
create index if not exists idx_research_sources_domain on research_sources (domain);
create index if not exists idx_research_sources_url on research_sources (url);
create index if not exists idx_research_findings_source_id on research_findings (source_id);
create index if not exists idx_research_findings_session_id on research_findings (session_id);
create index if not exists idx_research_findings_category on research_findings (category);
create index if not exists idx_research_contradictions_session_id on research_contradictions (session_id);
create index if not exists idx_research_contradictions_status on research_contradictions (status);
create index if not exists idx_research_reports_session_id on research_reports (session_id);
create index if not exists idx_research_report_sections_report_id on research_report_sections (report_id);
create index if not exists idx_research_report_sections_order on research_report_sections (report_id, section_order);

create trigger if not exists research_session_updated after update on research_sessions begin
    update research_sessions set updated_at = datetime('now') where id = new.id;
end;

create trigger if not exists research_report_updated after update on research_reports begin
    update research_reports set updated_at = datetime('now') where id = new.id;
end;
