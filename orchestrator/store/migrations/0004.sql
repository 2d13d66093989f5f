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
