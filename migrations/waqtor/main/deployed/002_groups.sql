-- Groups of recipients: eight tables in all.
CREATE TABLE groups (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE ON UPDATE CASCADE,
    name varchar(255) NOT NULL,
    description text,
    color varchar(7) DEFAULT '#3B82F6',
    icon varchar(50),
    is_active boolean DEFAULT true,
    created_at timestamptz,
    updated_at timestamptz
);
CREATE INDEX groups_user_id ON groups (user_id);
CREATE UNIQUE INDEX unique_user_group_name ON groups (user_id, name);

CREATE TABLE recipient_groups (
    id uuid PRIMARY KEY,
    recipient_id uuid NOT NULL REFERENCES recipients (id) ON DELETE CASCADE ON UPDATE CASCADE,
    group_id uuid NOT NULL REFERENCES groups (id) ON DELETE CASCADE ON UPDATE CASCADE,
    created_at timestamptz,
    UNIQUE (recipient_id, group_id)
);
CREATE INDEX recipient_groups_recipient_id ON recipient_groups (recipient_id);
CREATE INDEX recipient_groups_group_id ON recipient_groups (group_id);
CREATE UNIQUE INDEX unique_recipient_group ON recipient_groups (recipient_id, group_id);
