-- Models of a provider that make embeddings, videos and speech, or run in a trusted environment.

-- Up
alter table credentials add column embedding_endpoint text;
alter table credentials add column embedding_models text default '[]';
alter table credentials add column video_endpoint text;
alter table credentials add column video_models text default '[]';
alter table credentials add column tts_endpoint text;
alter table credentials add column tts_models text default '[]';
alter table credentials add column tee_endpoint text;
alter table credentials add column tee_models text default '[]';
