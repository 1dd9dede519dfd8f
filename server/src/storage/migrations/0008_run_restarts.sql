-- A run that this node opened goes on by itself after a restart of the node, a bounded number of times.
ALTER TABLE matching_runs ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0; -- how often the node was restarted during the run
