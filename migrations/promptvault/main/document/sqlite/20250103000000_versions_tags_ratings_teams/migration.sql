-- Purpose: what the app keeps besides users and prompts, as the app itself has it: the document names these tables and
-- does not write them down.

create table if not exists PromptVersion (
    id text primary key not null,
    promptId text not null references Prompt (id) on update cascade on delete restrict,
    title text not null,
    body text not null,
    notes text,
    createdAt datetime not null default current_timestamp
);

create table if not exists Tag (
    id text primary key not null,
    name text not null
);
create unique index if not exists Tag_name_key on Tag (name);

create table if not exists PromptTag (
    promptId text not null references Prompt (id) on update cascade on delete restrict,
    tagId text not null references Tag (id) on update cascade on delete restrict,
    primary key (promptId, tagId)
);

create table if not exists Rating (
    id text primary key not null,
    value integer not null,
    promptId text not null references Prompt (id) on update cascade on delete restrict,
    userId text not null references User (id) on update cascade on delete restrict,
    createdAt datetime not null default current_timestamp
);
create unique index if not exists Rating_userId_promptId_key on Rating (userId, promptId);

create table if not exists Settings (
    id integer primary key autoincrement,
    allowRegistration boolean not null default true,
    updatedAt datetime not null
);

create table if not exists Team (
    id text primary key not null,
    name text not null,
    createdAt datetime not null default current_timestamp
);
create unique index if not exists Team_name_key on Team (name);

create table if not exists UserTeam (
    userId text not null references User (id) on update cascade on delete restrict,
    teamId text not null references Team (id) on update cascade on delete restrict,
    primary key (userId, teamId)
);
