-- The memory of chats in five layers: recent messages, moods, vectors and words, what is salient, and a graph of concepts.
--
-- Chats and messages are in another database, so no foreign key refers to them.

-- Up
create table if not exists l1_river (
    id text primary key,
    chat_id text not null,
    message_id text not null,
    content text not null,
    token_count integer not null,
    timestamp text not null default (datetime('now')),
    evicted_at text
);

create index if not exists idx_l1_chat_id on l1_river (chat_id);
create index if not exists idx_l1_message_id on l1_river (message_id);
create index if not exists idx_l1_timestamp on l1_river (timestamp desc);
create index if not exists idx_l1_evicted on l1_river (evicted_at);

create table if not exists l2_affect (
    id text primary key,
    chat_id text not null,
    message_id text not null,
    affect_category text not null check (
        affect_category in ('FRUSTRATED', 'CONFUSED', 'CURIOUS', 'SATISFIED', 'URGENT', 'REFLECTIVE')
    ),
    intensity real not null check (intensity >= 0.0 and intensity <= 1.0),
    reasoning text,
    decay_factor real not null default 1.0,
    is_muted integer not null default 0,
    created_at text not null default (datetime('now')),
    last_accessed_at text not null default (datetime('now'))
);

create index if not exists idx_l2_chat_id on l2_affect (chat_id);
create index if not exists idx_l2_message_id on l2_affect (message_id);
create index if not exists idx_l2_category on l2_affect (affect_category);
create index if not exists idx_l2_intensity on l2_affect (intensity desc);
create index if not exists idx_l2_decay on l2_affect (decay_factor);
create index if not exists idx_l2_muted on l2_affect (is_muted);

create table if not exists l3_vectors (
    id text primary key,
    chat_id text not null,
    message_id text not null,
    content_hash text not null,
    embedding_blob blob not null,
    embedding_model text not null,
    dimensions integer not null,
    boost_factor real not null default 1.0,
    is_muted integer not null default 0,
    created_at text not null default (datetime('now'))
);

create index if not exists idx_l3_vectors_chat_id on l3_vectors (chat_id);
create index if not exists idx_l3_vectors_message_id on l3_vectors (message_id);
create index if not exists idx_l3_vectors_content_hash on l3_vectors (content_hash);
create index if not exists idx_l3_vectors_model on l3_vectors (embedding_model);
create index if not exists idx_l3_vectors_muted on l3_vectors (is_muted);

create virtual table if not exists l3_lexical_fts
using fts5(content, chat_id unindexed, message_id unindexed, tokenize='porter unicode61');

create table if not exists l3_lexical_meta (
    message_id text primary key,
    chat_id text not null,
    boost_factor real not null default 1.0,
    is_muted integer not null default 0,
    created_at text not null default (datetime('now'))
);

create index if not exists idx_l3_lexical_meta_chat_id on l3_lexical_meta (chat_id);
create index if not exists idx_l3_lexical_meta_muted on l3_lexical_meta (is_muted);

create table if not exists l3_entities (
    id text primary key,
    entity_type text not null check (
        entity_type in ('PERSON', 'CONCEPT', 'TOOL', 'LOCATION', 'FILE', 'TECHNOLOGY', 'OTHER')
    ),
    entity_value text not null,
    canonical_form text,
    chat_id text,
    first_seen_at text not null default (datetime('now')),
    last_seen_at text not null default (datetime('now')),
    unique (entity_type, entity_value, chat_id)
);

create index if not exists idx_l3_entities_chat on l3_entities (chat_id);
create index if not exists idx_l3_entities_type on l3_entities (entity_type);
create index if not exists idx_l3_entities_value on l3_entities (entity_value);

create table if not exists l3_relations (
    id text primary key,
    source_entity_id text not null references l3_entities (id) on delete cascade,
    target_entity_id text not null references l3_entities (id) on delete cascade,
    relation_type text not null check (
        relation_type in ('USES', 'PART_OF', 'RELATED_TO', 'MENTIONED_WITH', 'DEPENDS_ON')
    ),
    context_message_id text not null,
    confidence real not null default 1.0,
    is_muted integer not null default 0,
    created_at text not null default (datetime('now'))
);

create index if not exists idx_l3_relations_source on l3_relations (source_entity_id);
create index if not exists idx_l3_relations_target on l3_relations (target_entity_id);
create index if not exists idx_l3_relations_message on l3_relations (context_message_id);
create index if not exists idx_l3_relations_muted on l3_relations (is_muted);

create table if not exists l4_salience (
    id text primary key,
    chat_id text not null,
    message_id text not null unique,
    content text not null,
    salience_score real not null check (salience_score >= 0.0 and salience_score <= 1.0),
    prediction_error real,
    user_pinned integer not null default 0,
    retention_priority integer not null default 0,
    is_muted integer not null default 0,
    created_at text not null default (datetime('now')),
    last_accessed_at text not null default (datetime('now'))
);

create index if not exists idx_l4_chat_id on l4_salience (chat_id);
create index if not exists idx_l4_message_id on l4_salience (message_id);
create index if not exists idx_l4_salience_score on l4_salience (salience_score desc);
create index if not exists idx_l4_user_pinned on l4_salience (user_pinned);
create index if not exists idx_l4_retention on l4_salience (retention_priority desc);
create index if not exists idx_l4_muted on l4_salience (is_muted);

create table if not exists l5_nodes (
    id text primary key,
    node_type text not null check (node_type in ('CONCEPT', 'TOPIC', 'ENTITY')),
    node_value text not null,
    chat_id text,
    first_seen_at text not null default (datetime('now')),
    last_seen_at text not null default (datetime('now')),
    unique (node_type, node_value, chat_id)
);

create index if not exists idx_l5_nodes_chat on l5_nodes (chat_id);
create index if not exists idx_l5_nodes_type on l5_nodes (node_type);
create index if not exists idx_l5_nodes_value on l5_nodes (node_value);

create table if not exists l5_edges (
    id text primary key,
    source_node_id text not null references l5_nodes (id) on delete cascade,
    target_node_id text not null references l5_nodes (id) on delete cascade,
    weight real not null default 1.0,
    temporal_decay real not null default 1.0,
    last_reinforced_at text not null default (datetime('now')),
    created_at text not null default (datetime('now')),
    unique (source_node_id, target_node_id)
);

create index if not exists idx_l5_edges_source on l5_edges (source_node_id);
create index if not exists idx_l5_edges_target on l5_edges (target_node_id);
create index if not exists idx_l5_edges_weight on l5_edges (weight desc);

create table if not exists consolidation_runs (
    id text primary key,
    chat_id text not null,
    trigger_type text not null check (trigger_type in ('overflow', 'scheduled', 'manual')),
    items_processed integer not null default 0,
    summaries_created integer not null default 0,
    conflicts_detected integer not null default 0,
    started_at text not null default (datetime('now')),
    completed_at text
);

create index if not exists idx_consolidation_chat on consolidation_runs (chat_id);
create index if not exists idx_consolidation_started on consolidation_runs (started_at desc);

create table if not exists memory_config (
    key text primary key,
    value text not null,
    updated_at text not null default (datetime('now'))
);

create table if not exists embedding_cache (
    content_hash text primary key,
    embedding_blob blob not null,
    embedding_model text not null,
    dimensions integer not null,
    created_at text not null default (datetime('now')),
    last_accessed_at text not null default (datetime('now'))
);

create index if not exists idx_embedding_cache_model on embedding_cache (embedding_model);

insert or ignore into memory_config (key, value) values
    ('memory_enabled', 'true'),
    ('l1_max_tokens', '8000'),
    ('l1_overflow_callback', 'consolidate'),
    ('l2_affect_threshold', '0.3'),
    ('l2_decay_rate', '0.95'),
    ('l3_embedding_model', 'openai:text-embedding-3-small'),
    ('l4_salience_threshold', '0.7'),
    ('l5_temporal_decay_rate', '0.98'),
    ('consolidation_schedule', '3600');
