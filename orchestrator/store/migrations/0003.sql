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
