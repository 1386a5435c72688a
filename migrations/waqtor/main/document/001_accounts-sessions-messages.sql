-- Accounts, WhatsApp sessions and messages, as the app's document has them: three tables. Roles and states are words, times
-- are UTC without a zone, and the database gives ids and times to who writes none.
CREATE TABLE users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email varchar(255) UNIQUE NOT NULL,
    password_hash varchar(255) NOT NULL,
    name varchar(255),
    role varchar(50) DEFAULT 'user',
    is_active boolean DEFAULT true,
    last_login_at timestamp,
    created_at timestamp DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX idx_users_email ON users (email);
CREATE INDEX idx_users_role ON users (role);
CREATE INDEX idx_users_is_active ON users (is_active);

CREATE TABLE whatsapp_sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    session_name varchar(255) NOT NULL,
    status varchar(50) DEFAULT 'disconnected',
    phone_number varchar(50),
    session_data text,
    qr_code text,
    created_at timestamp DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp DEFAULT CURRENT_TIMESTAMP,
    UNIQUE (user_id, session_name)
);
CREATE INDEX idx_sessions_user_id ON whatsapp_sessions (user_id);
CREATE INDEX idx_sessions_status ON whatsapp_sessions (status);
CREATE INDEX idx_sessions_phone ON whatsapp_sessions (phone_number);

-- A message outlives the session that it was sent by.
CREATE TABLE messages (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    session_id uuid REFERENCES whatsapp_sessions (id) ON DELETE SET NULL,
    message_id varchar(255),
    phone_number varchar(50) NOT NULL,
    message_text text,
    media_url text,
    media_type varchar(50),
    status varchar(50) DEFAULT 'pending',
    ack_status integer DEFAULT 0,
    error_message text,
    metadata jsonb,
    created_at timestamp DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX idx_messages_user_id ON messages (user_id);
CREATE INDEX idx_messages_session_id ON messages (session_id);
CREATE INDEX idx_messages_phone ON messages (phone_number);
CREATE INDEX idx_messages_status ON messages (status);
CREATE INDEX idx_messages_created_at ON messages (created_at);
