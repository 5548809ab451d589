-- The user whom a counter of a known device or of a session belongs to, so that an operator can clear all
-- counters of a user. Null for the counter of an e-mail address: nobody need be registered under it.
ALTER TABLE login_failures ADD COLUMN user_id TEXT;
CREATE INDEX login_failures_by_user ON login_failures (user_id) WHERE user_id IS NOT NULL;
