-- Portal activity: docs/METRICS.md says what is counted, engagement/ how.

-- Small integers in place of the platform's ids, handed out in order of arrival.
CREATE TABLE engagement_names (
    kind INTEGER NOT NULL, -- 0 partner, 1 user, 2 room, 3 resource
    name TEXT NOT NULL,    -- the platform's id
    idx INTEGER NOT NULL,  -- from 1, dense within the kind; 0 stands for none
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX engagement_names_by_idx ON engagement_names (kind, idx);

-- Portal events of one UTC day and shard of partners, sorted by (partner, user, at), without duplicates.
CREATE TABLE engagement_events (
    key INTEGER PRIMARY KEY, -- day since 1970-01-01 * 64 + shard
    events BLOB NOT NULL     -- engagement/blocks.rs
) STRICT;

-- What those events come to: one fragment per (partner, user, session) and day. Fragments add up to sessions.
CREATE TABLE engagement_days (
    key INTEGER PRIMARY KEY, -- as in engagement_events
    fragments BLOB NOT NULL  -- engagement/blocks.rs
) STRICT;

-- Pages viewed by room and resource, fragment by fragment. Apart, because most questions are not about them.
CREATE TABLE engagement_visits (
    key INTEGER PRIMARY KEY, -- as in engagement_events
    visits BLOB NOT NULL     -- engagement/blocks.rs
) STRICT;

CREATE TABLE engagement_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    events INTEGER NOT NULL, -- how many distinct events are stored
    through INTEGER          -- time of the latest, in ns since 1970
) STRICT;
INSERT INTO engagement_state (id, events, through) VALUES (1, 0, NULL);
