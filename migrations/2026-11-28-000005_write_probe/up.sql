-- One row that every replica's ping changes: it shows whether the database can be written.
CREATE TABLE write_probe (
    id TEXT NOT NULL PRIMARY KEY,
    pings BIGINT NOT NULL,
    -- Filled only to find out whether a table can grow, and never committed.
    padding TEXT NOT NULL DEFAULT ''
);

INSERT INTO write_probe (id, pings) VALUES ('ping', 0);
