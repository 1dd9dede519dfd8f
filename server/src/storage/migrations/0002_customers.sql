-- Customers and stages.

CREATE TABLE stage (
    number INTEGER PRIMARY KEY,           -- what customer.stage refers to; never changes
    id TEXT NOT NULL UNIQUE,              -- the name customers' records use
    label TEXT NOT NULL,                  -- the name people read; the id where it is empty
    ordinal INTEGER NOT NULL UNIQUE,      -- position in the lifecycle, ascending
    category INTEGER NOT NULL             -- 1 open, 2 customer, 3 lost, 4 churned
) STRICT;

INSERT INTO stage (number, id, label, ordinal, category) VALUES
    (1, 'Prospect', '', 10, 1),
    (2, 'Lead', '', 20, 1),
    (3, 'Deal', '', 30, 1),
    (4, 'Customer', '', 40, 2),
    (5, 'Lost', '', 50, 3),
    (6, 'Churned', '', 60, 4);

-- Clustered by id, so that a scan in order of id reads the file in sequence. What a scan filters on comes first in the row,
-- what it reads next, and what only people read last.
CREATE TABLE customer (
    id TEXT PRIMARY KEY NOT NULL,         -- the platform's id, compared byte by byte
    stage INTEGER NOT NULL REFERENCES stage (number), -- the lifecycle stage
    private INTEGER NOT NULL,             -- 1: never matched and never shared
    changed_seq INTEGER NOT NULL,         -- the change that last wrote the row (customer_state.change_seq)
    identifiers BLOB NOT NULL,            -- raw identifiers, outcomes, keys: customers/blob.rs
    name TEXT NOT NULL,                   -- the customer's name, or empty
    updated_at_ms INTEGER NOT NULL,       -- when the row was last written, milliseconds since 1970
    details BLOB NOT NULL                 -- owner, industry, region, further fields: customers/blob.rs
) STRICT, WITHOUT ROWID;

-- For runs that read only what changed. Appended to in order by an import, as all its rows have one number.
CREATE INDEX customer_changed ON customer (changed_seq);

-- Deleted customers, for runs that read only what changed.
CREATE TABLE customer_tombstone (
    id TEXT PRIMARY KEY NOT NULL,         -- the deleted customer's id
    changed_seq INTEGER NOT NULL,         -- the change that deleted it
    deleted_at_ms INTEGER NOT NULL        -- when, milliseconds since 1970
) STRICT, WITHOUT ROWID;

CREATE INDEX customer_tombstone_changed ON customer_tombstone (changed_seq);

CREATE TABLE customer_state (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1), -- there is one row
    change_seq INTEGER NOT NULL,          -- the number of the last change of customers
    pruned_seq INTEGER NOT NULL,          -- tombstones up to this change may be gone
    customers INTEGER NOT NULL,           -- how many customers there are
    normalizer_version INTEGER NOT NULL,  -- the rules that made the keys
    suffix_list_version TEXT NOT NULL     -- the public suffix list that made the keys
) STRICT;

INSERT INTO customer_state VALUES (1, 0, 0, 0, 0, '');
