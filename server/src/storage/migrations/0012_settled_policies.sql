-- A partner tightens the policy that it knows to be in force, so none older than one it put in force itself.

ALTER TABLE sharing ADD COLUMN settled INTEGER NOT NULL DEFAULT 0; -- the highest number of a policy that the partner put in force by tightening or accepting; 0 for none
