-- Accounts of services. They have no password.
CREATE TABLE service_accounts (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    -- Sorted, single spaces between.
    roles TEXT NOT NULL,
    -- In the order chosen, single spaces between.
    audiences TEXT NOT NULL,
    -- The audiences at which it may act for users, in the same form.
    act_for_users_at TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    disabled_at BIGINT,
    -- The version of the directory in which the row changed last.
    version BIGINT NOT NULL
);

CREATE INDEX service_accounts_by_version ON service_accounts (version);

-- Keys of service accounts. Nothing here can be presented: a key is a MAC under the master key.
CREATE TABLE service_keys (
    id TEXT NOT NULL PRIMARY KEY,
    service_account_id TEXT NOT NULL REFERENCES service_accounts (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT,
    -- To the minute.
    last_used_at BIGINT,
    -- The version of the directory in which the row changed last; its last use does not count.
    version BIGINT NOT NULL
);

CREATE INDEX service_keys_by_account ON service_keys (service_account_id, id);
CREATE INDEX service_keys_by_version ON service_keys (version);
CREATE INDEX service_keys_by_end ON service_keys (expires_at);

-- One row: the version of the two tables together. Whoever changes them changes this row first, so that versions become
-- visible in their order.
CREATE TABLE service_directory (
    id TEXT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    -- The version in which a row was last deleted: who knows an older one reads everything.
    deleted_version BIGINT NOT NULL
);

INSERT INTO service_directory (id, version, deleted_version) VALUES ('directory', 0, 0);
