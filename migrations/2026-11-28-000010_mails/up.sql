-- Mails to be sent: written in the transaction of the change they are about, sent by a background task of any replica.
-- No row holds a token: it is derived when the mail is sent.
CREATE TABLE mails (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    -- Whom it is for; null for an address that somebody gave, which need not belong to a user.
    user_id TEXT,
    -- The address that somebody gave.
    email TEXT,
    -- Equal for requests of one kind for one address within a few minutes, of which only the first is kept; null: no limit.
    slot TEXT UNIQUE,
    request_id TEXT NOT NULL,
    client_ip TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- When it is to be tried next. Who sends it moves this forward first, so that no other replica takes it.
    due_at BIGINT NOT NULL,
    attempts INTEGER NOT NULL,
    -- When it was sent, or found to be for nobody. The row stays for a while because of its slot.
    done_at BIGINT,
    -- When it was given up; an administrator may have it tried again.
    failed_at BIGINT,
    failure TEXT NOT NULL
);

CREATE INDEX mails_due ON mails (due_at) WHERE done_at IS NULL AND failed_at IS NULL;
CREATE INDEX mails_done ON mails (done_at) WHERE done_at IS NOT NULL;
