-- When the session was last rotated by the clock of the database, which all replicas share. Null where that is not known: the
-- clock of the replica that judges counts then.
ALTER TABLE sessions ADD COLUMN rotated_by_database_at BIGINT;

-- Mails that were given up are counted every few seconds.
CREATE INDEX mails_failed ON mails (failed_at) WHERE done_at IS NULL AND failed_at IS NOT NULL;
