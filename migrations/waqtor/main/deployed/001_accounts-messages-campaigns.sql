-- Accounts, WhatsApp sessions, messages, campaigns and recipients: the first six tables. Names are those that the app's
-- own library gives, so that the app finds everything in place. IDs and times come from the writer of a row.
CREATE TYPE enum_users_role AS ENUM ('admin', 'user', 'viewer');
CREATE TYPE enum_messages_status AS ENUM ('pending', 'sent', 'delivered', 'read', 'failed');
CREATE TYPE enum_messages_direction AS ENUM ('outgoing', 'incoming');
CREATE TYPE enum_campaigns_status AS ENUM ('draft', 'scheduled', 'running', 'completed', 'paused', 'failed');
CREATE TYPE enum_campaign_recipients_status AS ENUM ('pending', 'sent', 'delivered', 'read', 'failed');

CREATE TABLE users (
    id uuid PRIMARY KEY,
    email varchar(255) NOT NULL UNIQUE,
    password_hash varchar(255) NOT NULL,
    name varchar(255),
    role enum_users_role NOT NULL DEFAULT 'user',
    is_active boolean DEFAULT true,
    last_login_at timestamptz,
    created_at timestamptz,
    updated_at timestamptz
);
CREATE UNIQUE INDEX users_email ON users (email);

CREATE TABLE whatsapp_sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE ON UPDATE CASCADE,
    client_id varchar(255) NOT NULL UNIQUE,
    name varchar(255),
    phone_number varchar(50),
    is_active boolean DEFAULT true,
    is_ready boolean DEFAULT false,
    qr_code text,
    session_data jsonb,
    last_active_at timestamptz,
    created_at timestamptz,
    updated_at timestamptz
);
CREATE INDEX whatsapp_sessions_user_id ON whatsapp_sessions (user_id);
CREATE UNIQUE INDEX whatsapp_sessions_client_id ON whatsapp_sessions (client_id);
CREATE INDEX whatsapp_sessions_is_active ON whatsapp_sessions (is_active);

CREATE TABLE messages (
    id uuid PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES whatsapp_sessions (id) ON DELETE CASCADE ON UPDATE CASCADE,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE ON UPDATE CASCADE,
    message_id varchar(255),
    to_phone varchar(50) NOT NULL,
    from_phone varchar(50),
    body text,
    status enum_messages_status DEFAULT 'pending',
    ack_code integer,
    direction enum_messages_direction DEFAULT 'outgoing',
    has_media boolean DEFAULT false,
    media_url text,
    metadata jsonb,
    sent_at timestamptz,
    delivered_at timestamptz,
    read_at timestamptz,
    created_at timestamptz,
    updated_at timestamptz
);
CREATE INDEX messages_session_id ON messages (session_id);
CREATE INDEX messages_user_id ON messages (user_id);
CREATE INDEX messages_to_phone ON messages (to_phone);
CREATE INDEX messages_status ON messages (status);
CREATE INDEX messages_sent_at ON messages (sent_at);

CREATE TABLE campaigns (
    id uuid PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES whatsapp_sessions (id) ON DELETE CASCADE ON UPDATE CASCADE,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE ON UPDATE CASCADE,
    name varchar(255) NOT NULL,
    message_template text NOT NULL,
    status enum_campaigns_status DEFAULT 'draft',
    total_recipients integer DEFAULT 0,
    sent_count integer DEFAULT 0,
    delivered_count integer DEFAULT 0,
    read_count integer DEFAULT 0,
    failed_count integer DEFAULT 0,
    has_media boolean DEFAULT false,
    media_url text,
    delay_seconds integer DEFAULT 5,
    scheduled_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    created_at timestamptz,
    updated_at timestamptz
);
CREATE INDEX campaigns_user_id ON campaigns (user_id);
CREATE INDEX campaigns_session_id ON campaigns (session_id);
CREATE INDEX campaigns_status ON campaigns (status);
CREATE INDEX campaigns_scheduled_at ON campaigns (scheduled_at);

CREATE TABLE recipients (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE ON UPDATE CASCADE,
    phone varchar(50) NOT NULL,
    name varchar(255),
    email varchar(255),
    company varchar(255),
    tags varchar(255)[] DEFAULT (ARRAY[]::varchar[])::varchar(255)[],
    custom_fields jsonb,
    is_active boolean DEFAULT true,
    notes text,
    created_at timestamptz,
    updated_at timestamptz
);
CREATE INDEX recipients_user_id ON recipients (user_id);
CREATE INDEX recipients_phone ON recipients (phone);
CREATE UNIQUE INDEX unique_user_phone ON recipients (user_id, phone);

CREATE TABLE campaign_recipients (
    id uuid PRIMARY KEY,
    campaign_id uuid NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE ON UPDATE CASCADE,
    recipient_id uuid NOT NULL REFERENCES recipients (id) ON DELETE CASCADE ON UPDATE CASCADE,
    message_id varchar(255),
    status enum_campaign_recipients_status DEFAULT 'pending',
    ack_code integer,
    error_message text,
    sent_at timestamptz,
    delivered_at timestamptz,
    read_at timestamptz,
    created_at timestamptz,
    updated_at timestamptz,
    UNIQUE (campaign_id, recipient_id)
);
CREATE INDEX campaign_recipients_campaign_id ON campaign_recipients (campaign_id);
CREATE INDEX campaign_recipients_recipient_id ON campaign_recipients (recipient_id);
CREATE INDEX campaign_recipients_status ON campaign_recipients (status);
CREATE UNIQUE INDEX unique_campaign_recipient ON campaign_recipients (campaign_id, recipient_id);
