ALTER TABLE sessions DROP COLUMN audiences;
ALTER TABLE sessions DROP COLUMN authentication_methods;
ALTER TABLE sessions DROP COLUMN authenticated_at;
DROP TABLE feed_state;
