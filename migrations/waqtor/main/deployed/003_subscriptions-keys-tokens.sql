-- Paid features and their codes, API keys, refresh tokens: thirteen tables in all.
CREATE TYPE enum_feature_subscriptions_status AS ENUM ('active', 'expired', 'trial', 'suspended');
CREATE TYPE enum_feature_subscriptions_subscription_type AS ENUM ('free', 'premium', 'enterprise', 'lifetime');
CREATE TYPE enum_access_codes_subscription_type AS ENUM ('premium', 'enterprise', 'lifetime');
CREATE TYPE enum_feature_access_logs_access_type AS ENUM ('view', 'unlock_attempt', 'unlock_success', 'unlock_failed', 'usage');
CREATE TYPE enum_feature_access_logs_status AS ENUM ('allowed', 'blocked', 'trial', 'expired');

CREATE TABLE feature_subscriptions (
    id serial PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE ON UPDATE CASCADE,
    feature_name varchar(100) NOT NULL,
    status enum_feature_subscriptions_status NOT NULL DEFAULT 'trial',
    subscription_type enum_feature_subscriptions_subscription_type NOT NULL DEFAULT 'free',
    start_date timestamptz,
    end_date timestamptz,
    trial_end_date timestamptz,
    usage_limit integer,
    usage_count integer NOT NULL DEFAULT 0,
    metadata jsonb DEFAULT '{}',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX feature_subscriptions_user_id_feature_name ON feature_subscriptions (user_id, feature_name);
CREATE INDEX feature_subscriptions_status ON feature_subscriptions (status);
CREATE INDEX feature_subscriptions_end_date ON feature_subscriptions (end_date);

CREATE TABLE access_codes (
    id serial PRIMARY KEY,
    feature_name varchar(100) NOT NULL,
    code_hash varchar(255) NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    max_uses integer,
    used_count integer NOT NULL DEFAULT 0,
    expires_at timestamptz,
    subscription_type enum_access_codes_subscription_type NOT NULL DEFAULT 'premium',
    duration_days integer,
    created_by uuid REFERENCES users (id) ON DELETE SET NULL ON UPDATE CASCADE,
    metadata jsonb DEFAULT '{}',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX access_codes_code_hash_feature_name ON access_codes (code_hash, feature_name);
CREATE INDEX access_codes_feature_name ON access_codes (feature_name);
CREATE INDEX access_codes_is_active ON access_codes (is_active);
CREATE INDEX access_codes_expires_at ON access_codes (expires_at);

CREATE TABLE feature_access_logs (
    id serial PRIMARY KEY,
    user_id uuid REFERENCES users (id) ON DELETE SET NULL ON UPDATE CASCADE,
    feature_name varchar(100) NOT NULL,
    access_type enum_feature_access_logs_access_type NOT NULL,
    status enum_feature_access_logs_status NOT NULL,
    access_code_used boolean DEFAULT false,
    ip_address varchar(45),
    user_agent text,
    metadata jsonb DEFAULT '{}',
    created_at timestamptz NOT NULL
);
CREATE INDEX feature_access_logs_user_id ON feature_access_logs (user_id);
CREATE INDEX feature_access_logs_feature_name ON feature_access_logs (feature_name);
CREATE INDEX feature_access_logs_access_type ON feature_access_logs (access_type);
CREATE INDEX feature_access_logs_created_at ON feature_access_logs (created_at);

CREATE TABLE api_keys (
    id serial PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE ON UPDATE CASCADE,
    name varchar(255) NOT NULL,
    key_hash varchar(255) NOT NULL,
    prefix varchar(10) NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    last_used_at timestamptz,
    expires_at timestamptz,
    permissions jsonb DEFAULT '{}',
    metadata jsonb DEFAULT '{}',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX api_keys_user_id ON api_keys (user_id);
CREATE INDEX api_keys_prefix ON api_keys (prefix);
CREATE INDEX api_keys_is_active ON api_keys (is_active);
CREATE INDEX api_keys_expires_at ON api_keys (expires_at);

CREATE TABLE refresh_tokens (
    id serial PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE ON UPDATE CASCADE,
    token varchar(255) NOT NULL UNIQUE,
    expires_at timestamptz NOT NULL,
    is_revoked boolean NOT NULL DEFAULT false,
    ip_address varchar(45),
    user_agent text,
    replaced_by_token varchar(255),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX refresh_tokens_token ON refresh_tokens (token);
CREATE INDEX refresh_tokens_user_id ON refresh_tokens (user_id);
CREATE INDEX refresh_tokens_expires_at ON refresh_tokens (expires_at);
CREATE INDEX refresh_tokens_is_revoked ON refresh_tokens (is_revoked);
