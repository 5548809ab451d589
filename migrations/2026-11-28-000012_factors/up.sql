-- The kinds of second factors that a user has, single spaces between; null: none. Changed in the transaction that changes
-- the factors, so that a login sees them in the row that it locks anyway.
ALTER TABLE users ADD COLUMN factor_kinds TEXT;

-- Authenticator apps (RFC 6238), one for each user.
CREATE TABLE totp_factors (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE REFERENCES users (id) ON DELETE CASCADE,
    -- AES-256-GCM, as signing keys are.
    sealed_secret BYTEA NOT NULL,
    sealed_by INTEGER NOT NULL,
    -- The newest step whose code was accepted: no code of it or of an earlier one is accepted again.
    last_used_step BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    -- Null until a code was accepted after the confirmation.
    last_used_at BIGINT
);

CREATE INDEX totp_factors_sealed_by ON totp_factors (sealed_by, id);

-- Passkeys (WebAuthn Level 3). Nothing here is secret.
CREATE TABLE passkeys (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    credential_id BYTEA NOT NULL UNIQUE,
    -- A COSE_Key (RFC 9052), the bytes that the authenticator sent.
    public_key BYTEA NOT NULL,
    sign_count BIGINT NOT NULL,
    -- 0 or 1: the flags BE and BS of the authenticator data.
    backup_eligible INTEGER NOT NULL,
    backed_up INTEGER NOT NULL,
    aaguid BYTEA NOT NULL,
    -- Single spaces between.
    transports TEXT NOT NULL,
    label TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT
);

CREATE INDEX passkeys_by_user ON passkeys (user_id, id);

-- Recovery codes: a MAC under a master key of the user's id and the code. A copy of the table tells no code.
CREATE TABLE recovery_codes (
    mac TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The version of the master key.
    key_version INTEGER NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT
);

CREATE INDEX recovery_codes_by_user ON recovery_codes (user_id);
CREATE INDEX recovery_codes_by_version ON recovery_codes (key_version);

-- Challenges that were answered, right or wrong. A challenge itself is a MAC and is stored nowhere before.
CREATE TABLE used_challenges (
    id TEXT NOT NULL PRIMARY KEY,
    -- Wrong answers.
    tries INTEGER NOT NULL,
    -- When it was answered rightly.
    used_at BIGINT,
    -- When the challenge, and then the row, is worth nothing.
    expires_at BIGINT NOT NULL
);

CREATE INDEX used_challenges_by_expiry ON used_challenges (expires_at);
