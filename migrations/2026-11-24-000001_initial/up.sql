-- One text for SQLite and PostgreSQL: ids are UUIDv7 text, times are microseconds since the Unix
-- epoch, flags are nullable times.

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL,
    -- The address in NFKC and lower case: what makes two spellings one user.
    email_key TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    -- Sorted, single spaces between.
    roles TEXT NOT NULL,
    email_verified_at BIGINT,
    last_login_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    disabled_at BIGINT
);

CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    device_label TEXT NOT NULL,
    client_ip TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    -- The only thing stored about refresh tokens: which one is the newest.
    generation INTEGER NOT NULL,
    created_at BIGINT NOT NULL,
    rotated_at BIGINT NOT NULL,
    idle_expires_at BIGINT NOT NULL,
    absolute_expires_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_end ON sessions (absolute_expires_at);

CREATE TABLE revocations (
    id TEXT NOT NULL PRIMARY KEY,
    -- 'session' or 'user'.
    kind TEXT NOT NULL,
    -- The id of the session or user.
    subject TEXT NOT NULL,
    -- For a user: tokens issued before this moment are dead.
    not_before BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    -- When the last access token it concerns has expired by itself.
    expires_at BIGINT NOT NULL
);

CREATE INDEX revocations_by_creation ON revocations (created_at);
CREATE INDEX revocations_by_end ON revocations (expires_at);

CREATE TABLE signing_keys (
    kid TEXT NOT NULL PRIMARY KEY,
    -- Counts the keys up; unique, so that replicas which create one at once agree on the winner.
    ordinal INTEGER NOT NULL UNIQUE,
    algorithm TEXT NOT NULL,
    -- PKCS #8, sealed with AES-256-GCM under the master key of the version beside it.
    sealed_private_key BYTEA NOT NULL,
    sealed_by INTEGER NOT NULL,
    created_at BIGINT NOT NULL,
    -- From when it signs, until its successor does.
    activates_at BIGINT NOT NULL,
    -- Set by an emergency rotation: its tokens are dead from that moment.
    revoked_at BIGINT
);

CREATE TABLE login_failures (
    -- A MAC of the e-mail's key: also addresses that nobody registered are counted, none is stored.
    account TEXT NOT NULL PRIMARY KEY,
    failures INTEGER NOT NULL,
    -- Before this moment no further attempt is let through.
    retry_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE INDEX login_failures_by_age ON login_failures (updated_at);

CREATE TABLE audit_events (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    user_id TEXT,
    session_id TEXT,
    client_ip TEXT NOT NULL,
    request_id TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX audit_events_by_user ON audit_events (user_id, created_at);
