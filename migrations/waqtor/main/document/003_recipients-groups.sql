-- Recipients, and the groups that they belong to: seven tables in all.
CREATE TABLE recipients (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    phone_number varchar(50) NOT NULL,
    name varchar(255),
    email varchar(255),
    custom_fields jsonb,
    status varchar(50) DEFAULT 'active',
    created_at timestamp DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp DEFAULT CURRENT_TIMESTAMP,
    UNIQUE (user_id, phone_number)
);
CREATE INDEX idx_recipients_user_id ON recipients (user_id);
CREATE INDEX idx_recipients_phone ON recipients (phone_number);
CREATE INDEX idx_recipients_status ON recipients (status);

CREATE TABLE groups (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name varchar(255) NOT NULL,
    description text,
    created_at timestamp DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp DEFAULT CURRENT_TIMESTAMP,
    UNIQUE (user_id, name)
);
CREATE INDEX idx_groups_user_id ON groups (user_id);

CREATE TABLE recipient_groups (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    recipient_id uuid NOT NULL REFERENCES recipients (id) ON DELETE CASCADE,
    group_id uuid NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    created_at timestamp DEFAULT CURRENT_TIMESTAMP,
    UNIQUE (recipient_id, group_id)
);
CREATE INDEX idx_recipient_groups_recipient ON recipient_groups (recipient_id);
CREATE INDEX idx_recipient_groups_group ON recipient_groups (group_id);
