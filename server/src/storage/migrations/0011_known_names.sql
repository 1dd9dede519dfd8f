-- A partner may call itself something else at any time; whom records mean by a name does not change with it.

ALTER TABLE partnerships ADD COLUMN known_as TEXT NOT NULL DEFAULT ''; -- the partner's name as of its pairing, by which records may name it; empty while pending
UPDATE partnerships SET known_as = organization;
