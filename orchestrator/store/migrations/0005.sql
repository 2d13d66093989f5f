-- What makes a run one that can be recorded and replayed. The journal's order is the order in which things took effect;
-- a call is placed in it by its beginning and its end.

ALTER TABLE call ADD COLUMN main INTEGER; -- landings there were when it began, or that it fetched
ALTER TABLE call ADD COLUMN began INTEGER; -- the journal's newest entry then
ALTER TABLE call ADD COLUMN ended INTEGER; -- its own entry in the journal
ALTER TABLE call ADD COLUMN kind TEXT NOT NULL DEFAULT ''; -- of its result: ok, refused, exit 1, timeout, interrupted …
ALTER TABLE call ADD COLUMN tree TEXT NOT NULL DEFAULT ''; -- of the workspace after it, '' where it was not looked at
ALTER TABLE call ADD COLUMN stamp TEXT NOT NULL DEFAULT ''; -- differs where the tree, the index, HEAD or a ref differs
