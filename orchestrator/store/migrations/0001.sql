-- A migration is never edited once it has been released; a new file is added.
--
-- Tables are the truth. `journal` is the history that people, reports and exports read; it is written in the transaction
-- of the change that it tells. Payloads (prompts, replies, results, scorecards) are compressed and kept once, by SHA-256.

CREATE TABLE run (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    name TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    created TEXT NOT NULL,
    worked_s REAL NOT NULL DEFAULT 0,
    settings TEXT NOT NULL
) STRICT;

CREATE TABLE journal (
    seq INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    kind TEXT NOT NULL,
    seat TEXT NOT NULL DEFAULT '',
    data TEXT NOT NULL
) STRICT;
CREATE INDEX journal_kind ON journal (kind, seq);
CREATE INDEX journal_seat ON journal (seat, seq);

CREATE TABLE payload (hash TEXT PRIMARY KEY, size INTEGER NOT NULL, body BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE task (
    id TEXT PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE,
    title TEXT NOT NULL,
    state TEXT NOT NULL,
    source TEXT NOT NULL,
    created TEXT NOT NULL,
    by TEXT NOT NULL DEFAULT '',
    why TEXT NOT NULL DEFAULT '',
    cases TEXT NOT NULL DEFAULT '[]',
    touches TEXT NOT NULL DEFAULT '[]',
    after TEXT NOT NULL DEFAULT '[]',
    signature TEXT NOT NULL DEFAULT '',
    priority REAL NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    bounces INTEGER NOT NULL DEFAULT 0,
    releases INTEGER NOT NULL DEFAULT 0,
    merged TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX task_state ON task (state);
CREATE INDEX task_signatures ON task (signature, number) WHERE signature <> '';
CREATE UNIQUE INDEX task_signature ON task (signature) WHERE signature <> '' AND state IN ('ready', 'claimed');

CREATE TABLE claim (
    task TEXT PRIMARY KEY REFERENCES task (id),
    session TEXT NOT NULL UNIQUE,
    epoch INTEGER NOT NULL,
    since TEXT NOT NULL,
    plan TEXT NOT NULL DEFAULT '',
    touches TEXT NOT NULL DEFAULT '[]'
) STRICT;

CREATE TABLE session (
    id TEXT PRIMARY KEY,
    seat TEXT NOT NULL,
    number INTEGER NOT NULL,
    role TEXT NOT NULL,
    model TEXT NOT NULL,
    state TEXT NOT NULL,
    started TEXT NOT NULL,
    base TEXT NOT NULL,
    system TEXT NOT NULL DEFAULT '',
    tools TEXT NOT NULL DEFAULT '',
    opening TEXT NOT NULL DEFAULT '',
    open_seat INTEGER NOT NULL DEFAULT 0,
    token TEXT NOT NULL DEFAULT '',
    turns INTEGER NOT NULL DEFAULT 0,
    ended TEXT,
    end TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    UNIQUE (seat, number)
) STRICT;
CREATE INDEX session_live ON session (state) WHERE state <> 'ended';

CREATE TABLE turn (
    session TEXT NOT NULL REFERENCES session (id),
    number INTEGER NOT NULL,
    at TEXT NOT NULL,
    reply TEXT NOT NULL,
    PRIMARY KEY (session, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE summary (
    session TEXT NOT NULL REFERENCES session (id),
    turns INTEGER NOT NULL,
    text TEXT NOT NULL,
    reply TEXT NOT NULL,
    PRIMARY KEY (session, turns)
) STRICT, WITHOUT ROWID;

CREATE TABLE call (
    id TEXT PRIMARY KEY,
    session TEXT NOT NULL,
    turn INTEGER NOT NULL,
    number INTEGER NOT NULL,
    vendor_id TEXT NOT NULL,
    name TEXT NOT NULL,
    arguments TEXT NOT NULL,
    state TEXT NOT NULL,
    started TEXT,
    seconds REAL NOT NULL DEFAULT 0,
    result TEXT NOT NULL DEFAULT '',
    failed INTEGER NOT NULL DEFAULT 0,
    end TEXT NOT NULL DEFAULT '',
    UNIQUE (session, turn, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX call_live ON call (session) WHERE state <> 'done';

CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL,
    turn INTEGER,
    at TEXT NOT NULL,
    sender TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX message_session ON message (session, turn);

CREATE TABLE change (
    id TEXT PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE,
    session TEXT NOT NULL,
    seat TEXT NOT NULL,
    task TEXT NOT NULL,
    state TEXT NOT NULL,
    submitted TEXT NOT NULL,
    base TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    tree TEXT NOT NULL,
    call TEXT NOT NULL UNIQUE,
    summary TEXT NOT NULL DEFAULT '',
    fixes TEXT NOT NULL DEFAULT '[]',
    files TEXT NOT NULL DEFAULT '[]',
    added INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0,
    ended TEXT,
    landed_as TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    lost TEXT NOT NULL DEFAULT '[]'
) STRICT;
CREATE INDEX change_live ON change (state) WHERE state NOT IN ('landed', 'bounced', 'withdrawn');

CREATE TABLE scorecard (
    id INTEGER PRIMARY KEY,
    tree TEXT NOT NULL,
    commit_id TEXT NOT NULL DEFAULT '',
    tier TEXT NOT NULL,
    at TEXT NOT NULL,
    seconds REAL NOT NULL,
    built INTEGER NOT NULL,
    void TEXT NOT NULL DEFAULT '',
    cases TEXT NOT NULL,
    outcomes TEXT NOT NULL,
    details TEXT NOT NULL,
    counts TEXT NOT NULL
) STRICT;
CREATE INDEX scorecard_commit ON scorecard (commit_id, tier);
CREATE INDEX scorecard_tree ON scorecard (tree, tier);

CREATE TABLE landing (
    number INTEGER PRIMARY KEY,
    change TEXT NOT NULL UNIQUE,
    old TEXT NOT NULL,
    new TEXT NOT NULL UNIQUE,
    scorecard INTEGER NOT NULL REFERENCES scorecard (id),
    at TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE attempt (
    id INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    session TEXT NOT NULL,
    turn INTEGER NOT NULL,
    number INTEGER NOT NULL,
    task TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL,
    state TEXT NOT NULL,
    at TEXT NOT NULL,
    reserved INTEGER,
    cost INTEGER,
    resolved TEXT NOT NULL DEFAULT '',
    usage TEXT NOT NULL DEFAULT '',
    failure TEXT NOT NULL DEFAULT '',
    metered INTEGER NOT NULL,
    prefix TEXT NOT NULL DEFAULT '',
    -- What it counts for: in flight or in doubt its worst case, settled what it cost, refused nothing.
    amount INTEGER NOT NULL GENERATED ALWAYS AS (coalesce(cost, reserved, 0)) VIRTUAL
) STRICT;
CREATE INDEX attempt_reserved ON attempt (id) WHERE state = 'reserved';
CREATE INDEX attempt_session ON attempt (session, turn);
CREATE INDEX attempt_amount ON attempt (state, amount);
CREATE INDEX attempt_session_amount ON attempt (session, state, amount);

CREATE TABLE note (
    topic TEXT NOT NULL,
    session TEXT NOT NULL,
    at TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (topic, session)
) STRICT, WITHOUT ROWID;
