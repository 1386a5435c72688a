-- Models of a provider that make images.

-- Up
alter table credentials add column image_endpoint text;
alter table credentials add column image_models text default '[]';
