-- The administrator who did it to somebody else; null for what users do to themselves and for the
-- command line.
ALTER TABLE audit_events ADD COLUMN actor_id TEXT;
