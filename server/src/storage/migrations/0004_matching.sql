-- Runs and what they found. Times are milliseconds since 1970 unless a name says otherwise.

CREATE TABLE matching_runs (
    id TEXT PRIMARY KEY,                -- "run_" and random digits; this node's own
    partnership_id TEXT NOT NULL,
    state TEXT NOT NULL,                -- as in overlap.v1.RunState, without the prefix
    is_full INTEGER NOT NULL,           -- 1: everything is matched again
    initiated_here INTEGER NOT NULL,    -- 1: this node opened the stream
    request_id TEXT,                    -- what the caller named its request
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    failure_reason TEXT,                -- stable code
    failure_message TEXT,
    failure_fault TEXT,                 -- MINE, PARTNER or NETWORK
    summary TEXT                        -- JSON, once the run is done
) STRICT;
CREATE INDEX matching_runs_newest ON matching_runs (partnership_id, started_at DESC, id DESC);
CREATE UNIQUE INDEX matching_runs_request ON matching_runs (partnership_id, request_id) WHERE request_id IS NOT NULL;

-- The last good result with each partner.
CREATE TABLE matching_results (
    partnership_id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,               -- the run it comes from
    directory TEXT NOT NULL,            -- of its files, under runs/: the run's name on the wire, hexadecimal
    completed_at INTEGER NOT NULL,
    matrix TEXT NOT NULL,               -- JSON: stages with their tiers, and cells
    manifest TEXT NOT NULL,             -- JSON: the files, with length and checksum
    their_fields TEXT NOT NULL          -- JSON: names of the fields in the partner's labels
) STRICT;

-- What both sides signed of each completed run.
CREATE TABLE matching_receipts (
    run_id TEXT PRIMARY KEY,
    partnership_id TEXT NOT NULL,
    own BLOB NOT NULL,                  -- signed here
    peer BLOB NOT NULL,                 -- signed by the partner
    result_salt BLOB NOT NULL           -- opens the commitment to the result in the own receipt
) STRICT;

-- The partner's VOPRF key of each epoch: a second one for an epoch is refused, and so is a lower epoch.
CREATE TABLE matching_peer_keys (
    partnership_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    public_key BLOB NOT NULL,           -- 32 bytes
    PRIMARY KEY (partnership_id, epoch)
) STRICT, WITHOUT ROWID;

-- Who queries for list x list, settled by the first run of a pair of epochs.
CREATE TABLE matching_roles (
    partnership_id TEXT PRIMARY KEY,
    my_epoch INTEGER NOT NULL,
    their_epoch INTEGER NOT NULL,
    i_query INTEGER NOT NULL
) STRICT;

-- What survives of a partnership's runs for the next one.
CREATE TABLE matching_state (
    partnership_id TEXT PRIMARY KEY,
    runs INTEGER NOT NULL,              -- runs begun
    chain_head BLOB,                    -- 32 bytes: head of the chain of receipts
    peer_receipt BLOB                   -- the partner's last signed receipt
) STRICT;

-- What this node released to each partner in reports: thresholds hold over time only if this is kept.
CREATE TABLE matching_series (
    partnership_id TEXT PRIMARY KEY,
    series BLOB NOT NULL                -- cells with counts, times and the members' hashes, as the protocol crate writes it
) STRICT;

-- Customers marked as targets; never sent.
CREATE TABLE matching_targets (
    partnership_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,          -- my row that names the shared customer
    PRIMARY KEY (partnership_id, customer_id)
) STRICT, WITHOUT ROWID;
