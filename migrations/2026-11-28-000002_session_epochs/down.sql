DROP TABLE session_sweeps;
DROP INDEX sessions_by_revocation;
DROP INDEX sessions_open_by_user;
ALTER TABLE sessions DROP COLUMN session_epoch;
ALTER TABLE users DROP COLUMN session_epoch;
