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
