-- Sharing permissions: docs/API.md "Sharing" has the rules, sharing/ledger.rs why both nodes agree. Times are microseconds since 1970-01-01T00:00:00Z.

CREATE TABLE sharing (
    partnership TEXT PRIMARY KEY REFERENCES partnerships (id), -- whom it is with
    generation INTEGER NOT NULL DEFAULT 1, -- raised by every revocation, and by declining before there is an agreement
    ended TEXT NOT NULL DEFAULT '' CHECK (ended IN ('', 'DECLINED', 'REVOKED')), -- how the generation before ended
    updated_us INTEGER NOT NULL     -- when anything here changed last
) STRICT;

CREATE TABLE sharing_policies (
    partnership TEXT NOT NULL REFERENCES partnerships (id), -- whom it is with
    mine INTEGER NOT NULL CHECK (mine IN (0, 1)), -- 1: what I disclose, 0: what the partner discloses
    number INTEGER NOT NULL,        -- given by the side it belongs to, ascending, never used twice
    generation INTEGER NOT NULL,    -- in which it was stated
    status TEXT NOT NULL CHECK (status IN ('OPEN', 'EFFECTIVE', 'DECLINED')), -- an OPEN or EFFECTIVE one counts while it is the highest of its kind
    document BLOB NOT NULL,         -- policy and stages, as they crossed the wire (JSON)
    created_us INTEGER NOT NULL,    -- when it was stated here or arrived
    PRIMARY KEY (partnership, mine, number)
) STRICT, WITHOUT ROWID;
