-- One row: the order in which revocations become visible, and which history that order belongs to.
CREATE TABLE feed_state (
    id TEXT NOT NULL PRIMARY KEY,
    -- A random id, set by the first replica. A copy that `countersign backup` makes gets another one.
    history TEXT NOT NULL,
    -- The greatest position given to a revocation. Whoever gives out positions changes this row, so that transactions
    -- take turns from their positions to their commits.
    position BIGINT NOT NULL
);

INSERT INTO feed_state (id, history, position) VALUES ('feed', '', 0);

-- When the user last proved who it is, in this session; null means at its creation.
ALTER TABLE sessions ADD COLUMN authenticated_at BIGINT;

-- How (RFC 8176), single spaces between; null means by password.
ALTER TABLE sessions ADD COLUMN authentication_methods TEXT;

-- The audiences chosen at the login or at a refresh, single spaces between; null means all that are configured.
ALTER TABLE sessions ADD COLUMN audiences TEXT;
