-- Tokens, partnerships, notices, audit. Times are microseconds since 1970-01-01T00:00:00Z.

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,            -- "tok_" and random digits; what the audit log names
    secret_sha256 BLOB NOT NULL UNIQUE, -- SHA-256 of the bearer token
    user TEXT NOT NULL,             -- who uses it
    role TEXT NOT NULL,             -- Role::name
    partnership TEXT,               -- the only partnership it sees, for role PARTNER
    created_us INTEGER NOT NULL,    -- when it was made
    expires_us INTEGER,             -- when it ends by itself
    revoked_us INTEGER              -- when it was ended
) STRICT;

CREATE TABLE partnerships (
    id TEXT PRIMARY KEY,            -- "prt_" and random digits
    state TEXT NOT NULL CHECK (state IN ('PENDING', 'CONNECTED', 'REVOKED')),
    organization TEXT NOT NULL,     -- the partner's name; empty while pending
    organization_folded TEXT NOT NULL, -- the name in lower case, for looking it up
    endpoint TEXT,                  -- host:port of its exchange listener
    certificate_sha256 BLOB,        -- pinned end-entity certificate
    organization_key BLOB,          -- pinned Ed25519 key
    announced TEXT NOT NULL DEFAULT '', -- the profile of this node that was last sent to it
    created_us INTEGER NOT NULL,    -- when it was invited, or when its invitation was accepted
    connected_us INTEGER,           -- when both sides had proved the invitation
    revoked_us INTEGER              -- when either side ended it
) STRICT;
CREATE UNIQUE INDEX partnerships_by_certificate ON partnerships (certificate_sha256) WHERE state = 'CONNECTED';
CREATE UNIQUE INDEX partnerships_by_name ON partnerships (organization_folded) WHERE state = 'CONNECTED';

CREATE TABLE invites (
    id BLOB PRIMARY KEY,            -- derived from the secret, which it does not give away
    partnership TEXT NOT NULL UNIQUE REFERENCES partnerships (id), -- the pending partnership it is for
    sealed_key BLOB NOT NULL,       -- the proof's key, sealed
    expires_us INTEGER NOT NULL,    -- until when it can be used
    used_us INTEGER                 -- when it was used or withdrawn
) STRICT;

CREATE TABLE notices_out (
    partnership TEXT NOT NULL REFERENCES partnerships (id), -- whom it is for
    sequence INTEGER NOT NULL,      -- from 1, without gaps, for each partnership
    notice_id TEXT NOT NULL UNIQUE, -- "ntc_" and random digits
    kind TEXT NOT NULL,             -- e.g. "sharing.proposed"
    body BLOB NOT NULL,             -- JSON
    created_us INTEGER NOT NULL,    -- when it was enqueued
    PRIMARY KEY (partnership, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE notice_positions (
    partnership TEXT PRIMARY KEY REFERENCES partnerships (id), -- the other side
    sent INTEGER NOT NULL DEFAULT 0, -- sequence of the last notice enqueued for it
    seen INTEGER NOT NULL DEFAULT 0 -- sequence of the last notice of its that took effect
) STRICT;

CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY,   -- from 1, without gaps
    at_us INTEGER NOT NULL,         -- when it happened
    actor TEXT NOT NULL,            -- a token's id, "system", or "partner:" and a partnership's id
    action TEXT NOT NULL,           -- e.g. "partnership.connected"
    partnership TEXT,               -- the partnership it is about
    details TEXT NOT NULL,          -- JSON list of key and value
    hash BLOB NOT NULL              -- SHA-256 over the previous hash and every column of this row
) STRICT;
CREATE INDEX audit_by_partnership ON audit (partnership, sequence);
CREATE TRIGGER audit_keeps_values BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_keeps_rows BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
