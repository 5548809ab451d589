CREATE INDEX revocations_by_creation ON revocations (created_at);
DROP INDEX revocations_by_position;
ALTER TABLE revocations DROP COLUMN position;
