-- The partner program's records, as the platform sent them.

CREATE TABLE records (
    kind INTEGER NOT NULL,    -- overlap.v1.RecordKind
    id TEXT NOT NULL,         -- unique within the kind
    partner TEXT NOT NULL,    -- the partner it is about, or empty
    version INTEGER NOT NULL, -- in ns since 1970: when an event happened, when the platform changed anything else
    deleted INTEGER NOT NULL, -- 1: a tombstone, so that a late older version does not come back
    body BLOB NOT NULL,       -- overlap.v1.Record
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX records_by_partner ON records (kind, partner, id) WHERE NOT deleted;

CREATE TABLE program_settings (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    body BLOB NOT NULL -- overlap.v1.ProgramSettings
) STRICT;

-- What the platform is asked to do.
CREATE TABLE analysis_refresh_requests (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    partner TEXT NOT NULL,      -- empty for all
    requested_by TEXT NOT NULL, -- the user
    requested_at INTEGER NOT NULL, -- ns since 1970
    request_id TEXT UNIQUE      -- the caller's, so that a repeated call asks once
) STRICT;

-- Who looks at which numbers.
CREATE TABLE dashboard_use (
    day INTEGER NOT NULL, -- UTC day since 1970-01-01
    view TEXT NOT NULL,   -- the RPC
    user TEXT NOT NULL,
    calls INTEGER NOT NULL,
    PRIMARY KEY (day, view, user)
) STRICT, WITHOUT ROWID;

-- Changes with every call that takes records in, so that readers know when to read again.
CREATE TABLE record_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL
) STRICT;
INSERT INTO record_state (id, revision) VALUES (1, 0);
