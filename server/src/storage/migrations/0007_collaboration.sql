-- Attribution, assets, timeline, partner information, changes: docs/COLLABORATION.md has the rules. Times are microseconds
-- since 1970-01-01T00:00:00Z.

CREATE TABLE attributions (
    partnership TEXT NOT NULL REFERENCES partnerships (id), -- with whom
    id TEXT NOT NULL,               -- "atr_" and random digits, given by the requester; the same on both nodes
    sent INTEGER NOT NULL CHECK (sent IN (0, 1)), -- 1: I asked, 0: the partner asked
    state TEXT NOT NULL CHECK (state IN ('PENDING', 'APPROVED', 'DENIED', 'CANCELLED')),
    customer TEXT NOT NULL,         -- my row that names the shared customer; empty while it is not known
    handle TEXT NOT NULL,           -- the pairwise handle that named the customer; empty for what was cancelled before it arrived
    details TEXT NOT NULL,          -- how the requester influenced the customer
    comment TEXT NOT NULL,          -- what the decider had to say
    requested_us INTEGER NOT NULL,  -- by the requester's clock
    decided_us INTEGER,             -- by the receiver's clock
    cancel_us INTEGER,              -- when I asked for cancellation
    user TEXT NOT NULL,             -- who asked or decided here
    PRIMARY KEY (partnership, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX attributions_newest ON attributions (partnership, sent, requested_us DESC, id);
CREATE INDEX attributions_decided ON attributions (partnership, decided_us) WHERE state = 'APPROVED';
CREATE UNIQUE INDEX attributions_pending ON attributions (partnership, customer) WHERE sent = 1 AND state = 'PENDING';

CREATE TABLE assets (
    id TEXT PRIMARY KEY,            -- "ast_" and random digits
    kind INTEGER NOT NULL,          -- overlap.v1.AssetKind
    title TEXT NOT NULL,            -- what people read
    file_name TEXT NOT NULL,        -- a name to save it under
    media_type TEXT NOT NULL,       -- as stated by whoever uploaded it
    bytes INTEGER NOT NULL,         -- length of the file
    sha256 BLOB NOT NULL,           -- names the file under assets/own/
    created_us INTEGER NOT NULL,    -- when it was uploaded
    user TEXT NOT NULL              -- by whom
) STRICT;
CREATE INDEX assets_newest ON assets (created_us DESC, id);
CREATE INDEX assets_by_sha256 ON assets (sha256);

CREATE TABLE asset_shares (
    partnership TEXT NOT NULL REFERENCES partnerships (id), -- who may have it
    asset TEXT NOT NULL,            -- assets.id
    revision INTEGER NOT NULL,      -- raised by every change, so that the partner knows the latest
    shared INTEGER NOT NULL CHECK (shared IN (0, 1)), -- 0: it was taken back
    description TEXT NOT NULL,      -- for the partner
    shared_us INTEGER NOT NULL,     -- when it was shared
    PRIMARY KEY (partnership, asset)
) STRICT, WITHOUT ROWID;
CREATE INDEX asset_shares_newest ON asset_shares (partnership, shared_us DESC, asset) WHERE shared = 1;

CREATE TABLE partner_assets (
    partnership TEXT NOT NULL REFERENCES partnerships (id), -- whose it is
    id TEXT NOT NULL,               -- given by the partner's node
    revision INTEGER NOT NULL,      -- the latest that arrived
    shared INTEGER NOT NULL CHECK (shared IN (0, 1)), -- 0: it was taken back
    kind INTEGER NOT NULL,          -- overlap.v1.AssetKind
    title TEXT NOT NULL,            -- as the partner states it, like everything below
    file_name TEXT NOT NULL,
    media_type TEXT NOT NULL,
    description TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 BLOB NOT NULL,           -- names the copy under assets/from/, once it was fetched
    created_us INTEGER NOT NULL,
    shared_us INTEGER NOT NULL,
    PRIMARY KEY (partnership, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX partner_assets_newest ON partner_assets (partnership, shared_us DESC, id) WHERE shared = 1;

-- Files under assets/ that nothing refers to any more.
CREATE TABLE asset_garbage (
    path TEXT PRIMARY KEY           -- relative to assets/
) STRICT, WITHOUT ROWID;

-- Lifecycle events of my customers, by customer: an index over records.
CREATE TABLE timeline_events (
    customer TEXT NOT NULL,         -- the row the event is about
    at_us INTEGER NOT NULL,         -- when it happened
    id TEXT NOT NULL UNIQUE,        -- records.id
    type INTEGER NOT NULL,          -- overlap.v1.LifecycleEventType
    label TEXT NOT NULL,            -- what people read; the new stage's id
    partner TEXT NOT NULL,          -- whom it happened with, as the platform names partners; or empty
    PRIMARY KEY (customer, at_us, id)
) STRICT, WITHOUT ROWID;

-- Events that are not in the index yet. Kind 1 of records is the lifecycle event.
CREATE TABLE timeline_unindexed (
    id TEXT PRIMARY KEY             -- records.id
) STRICT, WITHOUT ROWID;
CREATE TRIGGER timeline_event_arrives AFTER INSERT ON records WHEN NEW.kind = 1
BEGIN INSERT OR IGNORE INTO timeline_unindexed (id) VALUES (NEW.id); END;
CREATE TRIGGER timeline_event_changes AFTER UPDATE ON records WHEN NEW.kind = 1
BEGIN INSERT OR IGNORE INTO timeline_unindexed (id) VALUES (NEW.id); END;

-- Which events of mine each partner has.
CREATE TABLE timeline_sent (
    partnership TEXT NOT NULL REFERENCES partnerships (id), -- to whom
    event TEXT NOT NULL,            -- timeline_events.id
    alias TEXT NOT NULL,            -- the name the partner knows it by
    content BLOB NOT NULL,          -- SHA-256 of what was sent
    round INTEGER NOT NULL,         -- the publication that last saw it
    PRIMARY KEY (partnership, event)
) STRICT, WITHOUT ROWID;

-- The last complete publication to each partner.
CREATE TABLE timeline_publication (
    partnership TEXT PRIMARY KEY REFERENCES partnerships (id), -- to whom
    run TEXT NOT NULL,              -- the results it was for
    version TEXT NOT NULL,          -- of results and customers
    at_us INTEGER NOT NULL          -- when
) STRICT, WITHOUT ROWID;

-- Customers with events that came after the last complete publication.
CREATE TABLE timeline_unpublished (
    partnership TEXT NOT NULL REFERENCES partnerships (id), -- to whom
    customer TEXT NOT NULL,         -- the row the events are about
    PRIMARY KEY (partnership, customer)
) STRICT, WITHOUT ROWID;

-- Events of partners' customers.
CREATE TABLE partner_events (
    partnership TEXT NOT NULL REFERENCES partnerships (id), -- whose
    id TEXT NOT NULL,               -- given by the partner's node
    handle TEXT NOT NULL,           -- names the shared customer
    customer TEXT NOT NULL,         -- my row that names it; empty while it is not known
    at_us INTEGER NOT NULL,         -- when it happened, as the partner states it
    type INTEGER NOT NULL,          -- overlap.v1.LifecycleEventType
    label TEXT NOT NULL,            -- what people read; the new stage's id
    PRIMARY KEY (partnership, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX partner_events_by_customer ON partner_events (partnership, customer, at_us, id);
CREATE INDEX partner_events_by_handle ON partner_events (partnership, handle, customer);

CREATE TABLE own_info (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1), -- there is one row at most
    revision INTEGER NOT NULL,      -- raised by every change
    body BLOB NOT NULL,             -- as it crosses the wire (JSON)
    updated_us INTEGER NOT NULL     -- when it was set
) STRICT;

CREATE TABLE partner_infos (
    partnership TEXT PRIMARY KEY REFERENCES partnerships (id), -- whose
    told_revision INTEGER NOT NULL, -- own_info.revision that the partner was last told
    revision INTEGER NOT NULL,      -- the partner's latest; 0 if there is none
    body BLOB NOT NULL,             -- as it crossed the wire (JSON)
    updated_us INTEGER NOT NULL     -- when it arrived
) STRICT, WITHOUT ROWID;

-- What changed, for platforms that follow. The oldest go first.
CREATE TABLE changes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, -- the cursor
    at_us INTEGER NOT NULL,         -- when
    kind INTEGER NOT NULL,          -- overlap.v1.ChangeKind
    partnership TEXT NOT NULL,      -- with whom, or empty
    subject TEXT NOT NULL,          -- what
    details TEXT NOT NULL           -- JSON object of further facts
) STRICT;

-- The run with each partner that changes were last told of.
CREATE TABLE changes_runs (
    partnership TEXT PRIMARY KEY REFERENCES partnerships (id), -- with whom
    run TEXT NOT NULL,              -- the run
    newest_us INTEGER NOT NULL      -- when the newest shared customer was first found
) STRICT, WITHOUT ROWID;

-- Calls that were made with a request id.
CREATE TABLE request_ids (
    token TEXT NOT NULL,            -- who called
    call TEXT NOT NULL,             -- what
    request_id TEXT NOT NULL,       -- as the caller gave it
    content_sha256 BLOB NOT NULL,   -- what was asked
    subject TEXT NOT NULL,          -- what it made
    at_us INTEGER NOT NULL,         -- when
    PRIMARY KEY (token, call, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX request_ids_oldest ON request_ids (at_us);
