DROP TABLE audit_events;
DROP TABLE login_failures;
DROP TABLE signing_keys;
DROP TABLE revocations;
DROP TABLE sessions;
DROP TABLE users;
