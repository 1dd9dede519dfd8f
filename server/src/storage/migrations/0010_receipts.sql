-- A receipt is kept from the moment it is signed: the partner holds it even if its own never arrives.
CREATE TABLE matching_receipts_kept (
    run_id TEXT PRIMARY KEY,
    partnership_id TEXT NOT NULL,
    own BLOB NOT NULL,                  -- signed here
    peer BLOB,                          -- signed by the partner, once it has arrived
    result_salt BLOB NOT NULL           -- opens the commitment to the result in the own receipt
) STRICT;
INSERT INTO matching_receipts_kept SELECT run_id, partnership_id, own, peer, result_salt FROM matching_receipts;
DROP TABLE matching_receipts;
ALTER TABLE matching_receipts_kept RENAME TO matching_receipts;
CREATE INDEX matching_receipts_partner ON matching_receipts (partnership_id);

-- The database's copy of what the budget ledger outside it says: if the two disagree, one of them was rolled back.
CREATE TABLE matching_budgets (
    partnership_id TEXT PRIMARY KEY,
    generation INTEGER NOT NULL,        -- counts how often the ledger was opened and closed
    epoch INTEGER NOT NULL,             -- of mine, that the partner's queries were counted in
    queries INTEGER NOT NULL,           -- debited in the partner's epoch as of this generation
    tags INTEGER NOT NULL,              -- debited in the tags' window as of this generation
    tags_since INTEGER NOT NULL         -- start of that window, seconds since 1970
) STRICT;

-- The figures of a failed run's refusal, e.g. of a budget.
ALTER TABLE matching_runs ADD COLUMN failure_details TEXT;   -- JSON: names and values
