-- The key of the address in `email`, null where that is: with its user every mail goes, in whatever spelling it was asked for.
ALTER TABLE mails ADD COLUMN email_key TEXT;
CREATE INDEX mails_by_address ON mails (email_key) WHERE email_key IS NOT NULL;
CREATE INDEX mails_by_user ON mails (user_id) WHERE user_id IS NOT NULL;
