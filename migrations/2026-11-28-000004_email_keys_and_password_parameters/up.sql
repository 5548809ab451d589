-- The key that all spellings of one mailbox share: case folded in every alphabet, the domain in its ASCII form.
-- Null until the program has computed it, and for a user whose mailbox another user already has. `email_key` stays what
-- it was, NFKC and lower case: it finds those users, and the version before uses nothing else.
ALTER TABLE users ADD COLUMN email_identity TEXT;
CREATE UNIQUE INDEX users_by_email_identity ON users (email_identity);

-- Which parameters stored password hashes have, for example `$argon2id$v=19$m=19456,t=2,p=1`. A failed login costs what
-- the most expensive of them cost.
CREATE TABLE password_parameters (
    parameters TEXT NOT NULL PRIMARY KEY,
    recorded_at BIGINT NOT NULL
);
