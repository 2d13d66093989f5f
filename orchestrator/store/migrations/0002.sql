-- What main lost after landing: cases of suites with `when = "main"` that passed on one judged main and not on a later
-- one. Places are numbers of landings, 0 is the seed.
CREATE TABLE regression (
    case_id TEXT NOT NULL,
    good INTEGER NOT NULL,
    bad INTEGER NOT NULL,
    at TEXT NOT NULL,
    culprit INTEGER, -- NULL while it is looked for; 0 = nobody's: the case passes and fails on one main
    line TEXT NOT NULL DEFAULT '',
    landings INTEGER NOT NULL DEFAULT 0,
    builds INTEGER NOT NULL DEFAULT 0,
    task TEXT NOT NULL DEFAULT '',
    revert TEXT DEFAULT '', -- NULL while it is wanted; the change that takes the culprit's back, or ''
    PRIMARY KEY (case_id, good, bad)
) STRICT, WITHOUT ROWID;
CREATE INDEX regression_open ON regression (culprit) WHERE culprit IS NULL OR revert IS NULL;
CREATE INDEX scorecard_main ON scorecard (id) WHERE tier = 'main'; -- asked for whenever a seat looks for work
-- Exceptions to the ratchet: flaky cases in quarantine, and waivers, which end by themselves. A row is never deleted.
CREATE TABLE excuse (
    id INTEGER PRIMARY KEY,
    case_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    since TEXT NOT NULL,
    until TEXT,
    reason TEXT NOT NULL,
    by TEXT NOT NULL,
    task TEXT NOT NULL DEFAULT '',
    ended TEXT
) STRICT;
CREATE UNIQUE INDEX excuse_standing ON excuse (case_id, kind) WHERE ended IS NULL;
-- The case × commit matrix: what became of every shown case on every commit of main, as far as it was judged.
--
-- A commit's ordinal is the number of its landing; the seed's is 0. `cell` holds an outcome only where it differs from
-- the last known one before it, so a cell that is not there says what the last one before it says, or, when there is
-- none, that nobody knew the case yet (`-`). `judged` says where that may be relied on: every card is there under the
-- suite '', and under each suite of which it judged every case.

CREATE TABLE shown_case (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, suite TEXT NOT NULL) STRICT;

CREATE TABLE judged (
    suite TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    scorecard INTEGER NOT NULL,
    PRIMARY KEY (suite, ordinal, scorecard)
) STRICT, WITHOUT ROWID;

CREATE TABLE cell (
    shown_case INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (shown_case, ordinal)
) STRICT, WITHOUT ROWID;
-- What makes a run one that can be recorded and replayed. The journal's order is the order in which things took effect;
-- a call is placed in it by its beginning and its end.

ALTER TABLE call ADD COLUMN main INTEGER; -- landings there were when it began, or that it fetched
ALTER TABLE call ADD COLUMN began INTEGER; -- the journal's newest entry then
ALTER TABLE call ADD COLUMN ended INTEGER; -- its own entry in the journal
ALTER TABLE call ADD COLUMN kind TEXT NOT NULL DEFAULT ''; -- of its result: ok, refused, exit 1, timeout, interrupted …
ALTER TABLE call ADD COLUMN tree TEXT NOT NULL DEFAULT ''; -- of the workspace after it, '' where it was not looked at
ALTER TABLE call ADD COLUMN stamp TEXT NOT NULL DEFAULT ''; -- differs where the tree, the index, HEAD or a ref differs
