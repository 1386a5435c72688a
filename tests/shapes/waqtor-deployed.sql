-- The schema that Sequelize's sync() creates for WaQtor's models, as pg_dump prints it, without the name of the schema.
CREATE TYPE enum_access_codes_subscription_type AS ENUM (
    'premium',
    'enterprise',
    'lifetime'
);
CREATE TYPE enum_campaign_recipients_status AS ENUM (
    'pending',
    'sent',
    'delivered',
    'read',
    'failed'
);
CREATE TYPE enum_campaigns_status AS ENUM (
    'draft',
    'scheduled',
    'running',
    'completed',
    'paused',
    'failed'
);
CREATE TYPE enum_feature_access_logs_access_type AS ENUM (
    'view',
    'unlock_attempt',
    'unlock_success',
    'unlock_failed',
    'usage'
);
CREATE TYPE enum_feature_access_logs_status AS ENUM (
    'allowed',
    'blocked',
    'trial',
    'expired'
);
CREATE TYPE enum_feature_subscriptions_status AS ENUM (
    'active',
    'expired',
    'trial',
    'suspended'
);
CREATE TYPE enum_feature_subscriptions_subscription_type AS ENUM (
    'free',
    'premium',
    'enterprise',
    'lifetime'
);
CREATE TYPE enum_messages_direction AS ENUM (
    'outgoing',
    'incoming'
);
CREATE TYPE enum_messages_status AS ENUM (
    'pending',
    'sent',
    'delivered',
    'read',
    'failed'
);
CREATE TYPE enum_users_role AS ENUM (
    'admin',
    'user',
    'viewer'
);
CREATE TABLE access_codes (
    id integer NOT NULL,
    feature_name character varying(100) NOT NULL,
    code_hash character varying(255) NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    max_uses integer,
    used_count integer DEFAULT 0 NOT NULL,
    expires_at timestamp with time zone,
    subscription_type enum_access_codes_subscription_type DEFAULT 'premium'::enum_access_codes_subscription_type NOT NULL,
    duration_days integer,
    created_by uuid,
    metadata jsonb DEFAULT '{}'::jsonb,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE access_codes_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE access_codes_id_seq OWNED BY access_codes.id;
CREATE TABLE api_keys (
    id integer NOT NULL,
    user_id uuid NOT NULL,
    name character varying(255) NOT NULL,
    key_hash character varying(255) NOT NULL,
    prefix character varying(10) NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    last_used_at timestamp with time zone,
    expires_at timestamp with time zone,
    permissions jsonb DEFAULT '{}'::jsonb,
    metadata jsonb DEFAULT '{}'::jsonb,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE api_keys_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE api_keys_id_seq OWNED BY api_keys.id;
CREATE TABLE campaign_recipients (
    id uuid NOT NULL,
    campaign_id uuid NOT NULL,
    recipient_id uuid NOT NULL,
    message_id character varying(255),
    status enum_campaign_recipients_status DEFAULT 'pending'::enum_campaign_recipients_status,
    ack_code integer,
    error_message text,
    sent_at timestamp with time zone,
    delivered_at timestamp with time zone,
    read_at timestamp with time zone,
    created_at timestamp with time zone,
    updated_at timestamp with time zone
);
CREATE TABLE campaigns (
    id uuid NOT NULL,
    session_id uuid NOT NULL,
    user_id uuid NOT NULL,
    name character varying(255) NOT NULL,
    message_template text NOT NULL,
    status enum_campaigns_status DEFAULT 'draft'::enum_campaigns_status,
    total_recipients integer DEFAULT 0,
    sent_count integer DEFAULT 0,
    delivered_count integer DEFAULT 0,
    read_count integer DEFAULT 0,
    failed_count integer DEFAULT 0,
    has_media boolean DEFAULT false,
    media_url text,
    delay_seconds integer DEFAULT 5,
    scheduled_at timestamp with time zone,
    started_at timestamp with time zone,
    completed_at timestamp with time zone,
    created_at timestamp with time zone,
    updated_at timestamp with time zone
);
CREATE TABLE feature_access_logs (
    id integer NOT NULL,
    user_id uuid,
    feature_name character varying(100) NOT NULL,
    access_type enum_feature_access_logs_access_type NOT NULL,
    status enum_feature_access_logs_status NOT NULL,
    access_code_used boolean DEFAULT false,
    ip_address character varying(45),
    user_agent text,
    metadata jsonb DEFAULT '{}'::jsonb,
    created_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE feature_access_logs_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE feature_access_logs_id_seq OWNED BY feature_access_logs.id;
CREATE TABLE feature_subscriptions (
    id integer NOT NULL,
    user_id uuid NOT NULL,
    feature_name character varying(100) NOT NULL,
    status enum_feature_subscriptions_status DEFAULT 'trial'::enum_feature_subscriptions_status NOT NULL,
    subscription_type enum_feature_subscriptions_subscription_type DEFAULT 'free'::enum_feature_subscriptions_subscription_type NOT NULL,
    start_date timestamp with time zone,
    end_date timestamp with time zone,
    trial_end_date timestamp with time zone,
    usage_limit integer,
    usage_count integer DEFAULT 0 NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE feature_subscriptions_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE feature_subscriptions_id_seq OWNED BY feature_subscriptions.id;
CREATE TABLE groups (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    name character varying(255) NOT NULL,
    description text,
    color character varying(7) DEFAULT '#3B82F6'::character varying,
    icon character varying(50),
    is_active boolean DEFAULT true,
    created_at timestamp with time zone,
    updated_at timestamp with time zone
);
CREATE TABLE messages (
    id uuid NOT NULL,
    session_id uuid NOT NULL,
    user_id uuid NOT NULL,
    message_id character varying(255),
    to_phone character varying(50) NOT NULL,
    from_phone character varying(50),
    body text,
    status enum_messages_status DEFAULT 'pending'::enum_messages_status,
    ack_code integer,
    direction enum_messages_direction DEFAULT 'outgoing'::enum_messages_direction,
    has_media boolean DEFAULT false,
    media_url text,
    metadata jsonb,
    sent_at timestamp with time zone,
    delivered_at timestamp with time zone,
    read_at timestamp with time zone,
    created_at timestamp with time zone,
    updated_at timestamp with time zone
);
CREATE TABLE recipient_groups (
    id uuid NOT NULL,
    recipient_id uuid NOT NULL,
    group_id uuid NOT NULL,
    created_at timestamp with time zone
);
CREATE TABLE recipients (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    phone character varying(50) NOT NULL,
    name character varying(255),
    email character varying(255),
    company character varying(255),
    tags character varying(255)[] DEFAULT (ARRAY[]::character varying[])::character varying(255)[],
    custom_fields jsonb,
    is_active boolean DEFAULT true,
    notes text,
    created_at timestamp with time zone,
    updated_at timestamp with time zone
);
CREATE TABLE refresh_tokens (
    id integer NOT NULL,
    user_id uuid NOT NULL,
    token character varying(255) NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    is_revoked boolean DEFAULT false NOT NULL,
    ip_address character varying(45),
    user_agent text,
    replaced_by_token character varying(255),
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE refresh_tokens_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE refresh_tokens_id_seq OWNED BY refresh_tokens.id;
CREATE TABLE users (
    id uuid NOT NULL,
    email character varying(255) NOT NULL,
    password_hash character varying(255) NOT NULL,
    name character varying(255),
    role enum_users_role DEFAULT 'user'::enum_users_role NOT NULL,
    is_active boolean DEFAULT true,
    last_login_at timestamp with time zone,
    created_at timestamp with time zone,
    updated_at timestamp with time zone
);
CREATE TABLE whatsapp_sessions (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    client_id character varying(255) NOT NULL,
    name character varying(255),
    phone_number character varying(50),
    is_active boolean DEFAULT true,
    is_ready boolean DEFAULT false,
    qr_code text,
    session_data jsonb,
    last_active_at timestamp with time zone,
    created_at timestamp with time zone,
    updated_at timestamp with time zone
);
ALTER TABLE ONLY access_codes ALTER COLUMN id SET DEFAULT nextval('access_codes_id_seq'::regclass);
ALTER TABLE ONLY api_keys ALTER COLUMN id SET DEFAULT nextval('api_keys_id_seq'::regclass);
ALTER TABLE ONLY feature_access_logs ALTER COLUMN id SET DEFAULT nextval('feature_access_logs_id_seq'::regclass);
ALTER TABLE ONLY feature_subscriptions ALTER COLUMN id SET DEFAULT nextval('feature_subscriptions_id_seq'::regclass);
ALTER TABLE ONLY refresh_tokens ALTER COLUMN id SET DEFAULT nextval('refresh_tokens_id_seq'::regclass);
ALTER TABLE ONLY access_codes
    ADD CONSTRAINT access_codes_pkey PRIMARY KEY (id);
ALTER TABLE ONLY api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (id);
ALTER TABLE ONLY campaign_recipients
    ADD CONSTRAINT campaign_recipients_campaign_id_recipient_id_key UNIQUE (campaign_id, recipient_id);
ALTER TABLE ONLY campaign_recipients
    ADD CONSTRAINT campaign_recipients_pkey PRIMARY KEY (id);
ALTER TABLE ONLY campaigns
    ADD CONSTRAINT campaigns_pkey PRIMARY KEY (id);
ALTER TABLE ONLY feature_access_logs
    ADD CONSTRAINT feature_access_logs_pkey PRIMARY KEY (id);
ALTER TABLE ONLY feature_subscriptions
    ADD CONSTRAINT feature_subscriptions_pkey PRIMARY KEY (id);
ALTER TABLE ONLY groups
    ADD CONSTRAINT groups_pkey PRIMARY KEY (id);
ALTER TABLE ONLY messages
    ADD CONSTRAINT messages_pkey PRIMARY KEY (id);
ALTER TABLE ONLY recipient_groups
    ADD CONSTRAINT recipient_groups_pkey PRIMARY KEY (id);
ALTER TABLE ONLY recipient_groups
    ADD CONSTRAINT recipient_groups_recipient_id_group_id_key UNIQUE (recipient_id, group_id);
ALTER TABLE ONLY recipients
    ADD CONSTRAINT recipients_pkey PRIMARY KEY (id);
ALTER TABLE ONLY refresh_tokens
    ADD CONSTRAINT refresh_tokens_pkey PRIMARY KEY (id);
ALTER TABLE ONLY refresh_tokens
    ADD CONSTRAINT refresh_tokens_token_key UNIQUE (token);
ALTER TABLE ONLY users
    ADD CONSTRAINT users_email_key UNIQUE (email);
ALTER TABLE ONLY users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);
ALTER TABLE ONLY whatsapp_sessions
    ADD CONSTRAINT whatsapp_sessions_client_id_key UNIQUE (client_id);
ALTER TABLE ONLY whatsapp_sessions
    ADD CONSTRAINT whatsapp_sessions_pkey PRIMARY KEY (id);
CREATE UNIQUE INDEX access_codes_code_hash_feature_name ON access_codes USING btree (code_hash, feature_name);
CREATE INDEX refresh_tokens_is_revoked ON refresh_tokens USING btree (is_revoked);
CREATE INDEX messages_sent_at ON messages USING btree (sent_at);
CREATE INDEX feature_access_logs_access_type ON feature_access_logs USING btree (access_type);
CREATE INDEX api_keys_expires_at ON api_keys USING btree (expires_at);
CREATE INDEX access_codes_expires_at ON access_codes USING btree (expires_at);
CREATE INDEX access_codes_feature_name ON access_codes USING btree (feature_name);
CREATE INDEX access_codes_is_active ON access_codes USING btree (is_active);
CREATE INDEX api_keys_is_active ON api_keys USING btree (is_active);
CREATE INDEX api_keys_prefix ON api_keys USING btree (prefix);
CREATE INDEX api_keys_user_id ON api_keys USING btree (user_id);
CREATE INDEX campaign_recipients_campaign_id ON campaign_recipients USING btree (campaign_id);
CREATE INDEX campaign_recipients_recipient_id ON campaign_recipients USING btree (recipient_id);
CREATE INDEX campaign_recipients_status ON campaign_recipients USING btree (status);
CREATE INDEX campaigns_scheduled_at ON campaigns USING btree (scheduled_at);
CREATE INDEX campaigns_session_id ON campaigns USING btree (session_id);
CREATE INDEX campaigns_status ON campaigns USING btree (status);
CREATE INDEX campaigns_user_id ON campaigns USING btree (user_id);
CREATE INDEX feature_access_logs_created_at ON feature_access_logs USING btree (created_at);
CREATE INDEX feature_access_logs_feature_name ON feature_access_logs USING btree (feature_name);
CREATE INDEX feature_access_logs_user_id ON feature_access_logs USING btree (user_id);
CREATE INDEX feature_subscriptions_end_date ON feature_subscriptions USING btree (end_date);
CREATE INDEX feature_subscriptions_status ON feature_subscriptions USING btree (status);
CREATE UNIQUE INDEX feature_subscriptions_user_id_feature_name ON feature_subscriptions USING btree (user_id, feature_name);
CREATE INDEX groups_user_id ON groups USING btree (user_id);
CREATE INDEX messages_session_id ON messages USING btree (session_id);
CREATE INDEX messages_status ON messages USING btree (status);
CREATE INDEX messages_to_phone ON messages USING btree (to_phone);
CREATE INDEX messages_user_id ON messages USING btree (user_id);
CREATE INDEX recipient_groups_group_id ON recipient_groups USING btree (group_id);
CREATE INDEX recipient_groups_recipient_id ON recipient_groups USING btree (recipient_id);
CREATE INDEX recipients_phone ON recipients USING btree (phone);
CREATE INDEX recipients_user_id ON recipients USING btree (user_id);
CREATE INDEX refresh_tokens_expires_at ON refresh_tokens USING btree (expires_at);
CREATE UNIQUE INDEX refresh_tokens_token ON refresh_tokens USING btree (token);
CREATE INDEX refresh_tokens_user_id ON refresh_tokens USING btree (user_id);
CREATE UNIQUE INDEX unique_campaign_recipient ON campaign_recipients USING btree (campaign_id, recipient_id);
CREATE UNIQUE INDEX unique_recipient_group ON recipient_groups USING btree (recipient_id, group_id);
CREATE UNIQUE INDEX unique_user_group_name ON groups USING btree (user_id, name);
CREATE UNIQUE INDEX unique_user_phone ON recipients USING btree (user_id, phone);
CREATE UNIQUE INDEX users_email ON users USING btree (email);
CREATE UNIQUE INDEX whatsapp_sessions_client_id ON whatsapp_sessions USING btree (client_id);
CREATE INDEX whatsapp_sessions_is_active ON whatsapp_sessions USING btree (is_active);
CREATE INDEX whatsapp_sessions_user_id ON whatsapp_sessions USING btree (user_id);
ALTER TABLE ONLY access_codes
    ADD CONSTRAINT access_codes_created_by_fkey FOREIGN KEY (created_by) REFERENCES users(id) ON UPDATE CASCADE ON DELETE SET NULL;
ALTER TABLE ONLY api_keys
    ADD CONSTRAINT api_keys_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE ONLY campaign_recipients
    ADD CONSTRAINT campaign_recipients_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns(id) ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE ONLY campaign_recipients
    ADD CONSTRAINT campaign_recipients_recipient_id_fkey FOREIGN KEY (recipient_id) REFERENCES recipients(id) ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE ONLY campaigns
    ADD CONSTRAINT campaigns_session_id_fkey FOREIGN KEY (session_id) REFERENCES whatsapp_sessions(id) ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE ONLY campaigns
    ADD CONSTRAINT campaigns_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE ONLY feature_access_logs
    ADD CONSTRAINT feature_access_logs_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON UPDATE CASCADE ON DELETE SET NULL;
ALTER TABLE ONLY feature_subscriptions
    ADD CONSTRAINT feature_subscriptions_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE ONLY groups
    ADD CONSTRAINT groups_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE ONLY messages
    ADD CONSTRAINT messages_session_id_fkey FOREIGN KEY (session_id) REFERENCES whatsapp_sessions(id) ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE ONLY messages
    ADD CONSTRAINT messages_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE ONLY recipient_groups
    ADD CONSTRAINT recipient_groups_group_id_fkey FOREIGN KEY (group_id) REFERENCES groups(id) ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE ONLY recipient_groups
    ADD CONSTRAINT recipient_groups_recipient_id_fkey FOREIGN KEY (recipient_id) REFERENCES recipients(id) ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE ONLY recipients
    ADD CONSTRAINT recipients_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE ONLY refresh_tokens
    ADD CONSTRAINT refresh_tokens_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE ONLY whatsapp_sessions
    ADD CONSTRAINT whatsapp_sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON UPDATE CASCADE ON DELETE CASCADE;
