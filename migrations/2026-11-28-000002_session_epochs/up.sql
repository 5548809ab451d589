-- A session is live only when its epoch is not below the epoch of its user: raising the user's ends every
-- session in one row. Microseconds since the Unix epoch, but always beyond every session of the user, so that
-- no clock has to be trusted.
ALTER TABLE users ADD COLUMN session_epoch BIGINT NOT NULL DEFAULT 0;

-- Null in rows written by versions that do not know the column: their `created_at` counts instead.
ALTER TABLE sessions ADD COLUMN session_epoch BIGINT;

-- The sessions of a user that are not revoked, in the order of their logins.
CREATE INDEX sessions_open_by_user ON sessions (user_id, (coalesce(session_epoch, created_at)), id)
    WHERE revoked_at IS NULL;

-- What to purge.
CREATE INDEX sessions_by_revocation ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;

-- Users whose sessions are ended already, but whose rows of `sessions` do not all say so yet.
CREATE TABLE session_sweeps (
    user_id TEXT NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    requested_at BIGINT NOT NULL,
    -- A revocation of the user covers every access token issued up to this moment; 0 when there is none.
    covered_until BIGINT NOT NULL,
    -- Until when a replica is at it.
    claimed_until BIGINT NOT NULL
);
