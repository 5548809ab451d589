-- When each replica last reached the database, and when it could not: a client that was told to try again may come
-- back to another replica, which must not take its old refresh token for a stolen one.
CREATE TABLE replicas (
    id TEXT NOT NULL PRIMARY KEY,
    seen_at BIGINT NOT NULL,
    -- Spans of microseconds since the epoch: began-ended, separated by commas.
    outages TEXT NOT NULL
);
