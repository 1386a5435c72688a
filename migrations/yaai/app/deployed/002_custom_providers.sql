-- Providers that the user names, and the protocol of each.

-- Up
alter table credentials add column name text;
alter table credentials add column format text not null default 'openai';
alter table credentials add column brand_color text;

update credentials set name = 'Anthropic', format = 'anthropic' where id = 'anthropic';
update credentials set name = 'OpenAI', format = 'openai' where id = 'openai';
update credentials set name = 'Google', format = 'google' where id = 'google';
