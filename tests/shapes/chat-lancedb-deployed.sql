-- The indexes of a deployment since October 2025. Its ten columns of users have another order than in the document.
CREATE INDEX idx_users_email ON users (email);
CREATE INDEX idx_users_google_id ON users (google_id);
CREATE INDEX idx_users_account_type ON users (account_type);
CREATE INDEX idx_accounts_user_id ON accounts (user_id);
CREATE INDEX idx_accounts_provider ON accounts (provider, provider_account_id);
