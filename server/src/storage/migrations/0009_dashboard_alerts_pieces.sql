-- Use of the dashboard is read from the audit log, by when it was.
DROP TABLE dashboard_use;
CREATE INDEX audit_dashboard ON audit (at_us) WHERE action = 'dashboard.viewed';

-- Alerts of the program that the log of changes has told of, so that it tells of each once.
CREATE TABLE program_alerts (
    id TEXT NOT NULL,               -- the alert's
    cause INTEGER NOT NULL,         -- which occurrence of it, in ns since 1970: when the deal stopped moving, the certification ends, ...
    seen_us INTEGER NOT NULL,       -- when it was last true, in microseconds since 1970
    PRIMARY KEY (id, cause)
) STRICT, WITHOUT ROWID;

-- Files of partners that cannot be called, which this node has asked for and which arrive in pieces.
CREATE TABLE asset_wanted (
    partnership TEXT NOT NULL REFERENCES partnerships (id), -- whose
    asset TEXT NOT NULL,            -- partner_assets.id
    received INTEGER NOT NULL,      -- bytes under assets/pieces/ so far
    asked_us INTEGER NOT NULL,      -- when the partner was last asked, or sent something
    PRIMARY KEY (partnership, asset)
) STRICT, WITHOUT ROWID;

-- Files of mine that a partner which cannot call this node has asked for.
CREATE TABLE asset_sending (
    partnership TEXT NOT NULL REFERENCES partnerships (id), -- to whom
    asset TEXT NOT NULL,            -- assets.id
    sent INTEGER NOT NULL,          -- bytes that notices hold or have delivered
    PRIMARY KEY (partnership, asset)
) STRICT, WITHOUT ROWID;

-- Changes with every call that takes in anything but portal events, which need no reading again.
ALTER TABLE record_state ADD COLUMN facts INTEGER NOT NULL DEFAULT 0;

-- Ecosystem events by time; 18 is their kind.
CREATE INDEX records_ecosystem ON records (version) WHERE kind = 18 AND NOT deleted;
