-- The order in which replicas read revocations: microseconds since the Unix epoch, but always beyond every
-- position that the writer could see, so that a writer whose clock was set back is not overlooked.
ALTER TABLE revocations ADD COLUMN position BIGINT NOT NULL DEFAULT 0;
UPDATE revocations SET position = created_at;
CREATE INDEX revocations_by_position ON revocations (position, id);
DROP INDEX revocations_by_creation;
