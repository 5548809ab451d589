-- Which master key a version number stands for, so that a mistyped key stops the start instead of
-- making passwords and refresh tokens look wrong.
CREATE TABLE master_keys (
    version INTEGER NOT NULL PRIMARY KEY,
    -- Derived from the key under a label of its own: it tells keys apart and nothing about them.
    fingerprint TEXT NOT NULL
);
