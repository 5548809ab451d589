-- The version of the schema of the event's kind, and what the event says besides, as a JSON object; empty: nothing.
ALTER TABLE audit_events ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE audit_events ADD COLUMN details TEXT NOT NULL DEFAULT '';

-- The place in the order of exports. Given after the commit, so that events of transactions that commit out of order, and of
-- versions that do not know the column, are exported as well. Null until an export has seen the event.
ALTER TABLE audit_events ADD COLUMN position BIGINT;
CREATE UNIQUE INDEX audit_events_by_position ON audit_events (position) WHERE position IS NOT NULL;
CREATE INDEX audit_events_without_position ON audit_events (id) WHERE position IS NULL;

-- Ids grow with the time, and lists are in their order.
CREATE INDEX audit_events_by_subject ON audit_events (user_id, id);
DROP INDEX audit_events_by_user;

-- One row: the greatest position. Whoever gives out positions holds its lock until the commit.
CREATE TABLE audit_positions (
    id TEXT NOT NULL PRIMARY KEY,
    position BIGINT NOT NULL
);

INSERT INTO audit_positions (id, position) VALUES ('audit', 0);

-- One row: transactions that may take away the last administrator hold its lock, one after the other.
CREATE TABLE administrator_guard (
    id TEXT NOT NULL PRIMARY KEY,
    changes BIGINT NOT NULL
);

INSERT INTO administrator_guard (id, changes) VALUES ('guard', 0);

-- In just the words of the query that looks for another administrator.
CREATE INDEX users_administrators ON users (id) WHERE ' ' || roles || ' ' LIKE '% admin %';

-- How many of these mails a user got lately.
CREATE INDEX mails_new_device ON mails (user_id, created_at) WHERE kind = 'new_device';
