BEGIN TRANSACTION;
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
INSERT INTO "attempt" VALUES(1,1,'agent-01/1',1,1,'T1','scripted:team.toml','settled','2026-03-14T17:00:00.000000+00:00',4806,4500,'scripted:team.toml','{"cache_read": 0, "cache_write_1h": 0, "cache_write_5m": 0, "input": 1000, "output": 100, "reasoning": 0}','',1,'1290afcb8e0398f143098601af258489c31b576f9e5b6d61269ab567cb805a9c');
INSERT INTO "attempt" VALUES(2,1,'agent-01/1',2,1,'T1','scripted:team.toml','in-doubt','2026-03-14T17:00:00.000000+00:00',4806,NULL,'','','stream cut',1,'1290afcb8e0398f143098601af258489c31b576f9e5b6d61269ab567cb805a9c');
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
    end TEXT NOT NULL DEFAULT '', main INTEGER, began INTEGER, ended INTEGER, kind TEXT NOT NULL DEFAULT '', tree TEXT NOT NULL DEFAULT '', stamp TEXT NOT NULL DEFAULT '',
    UNIQUE (session, turn, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "call" VALUES('agent-01/1.1.0','agent-01/1',1,0,'call_1','shell','{"command": "make"}','done','2026-03-14T17:00:00.000000+00:00',1.5,'c22995adc29757a99bc9242926a5d5b5a8007ecc78f30943161cf072af42d9d2',0,'',NULL,NULL,9,'ok','','');
CREATE TABLE cell (
    shown_case INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (shown_case, ordinal)
) STRICT, WITHOUT ROWID;
INSERT INTO "cell" VALUES(1,0,'P','');
INSERT INTO "cell" VALUES(2,0,'F','exit 134');
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
INSERT INTO "change" VALUES('C1',1,'agent-01/1','agent-01','T1','queued','2026-03-14T17:00:00.000000+00:00','b0','c1','t1','agent-01/1.2.0','','[]','[]',0,0,NULL,'','','[]');
CREATE TABLE claim (
    task TEXT PRIMARY KEY REFERENCES task (id),
    session TEXT NOT NULL UNIQUE,
    epoch INTEGER NOT NULL,
    since TEXT NOT NULL,
    plan TEXT NOT NULL DEFAULT '',
    touches TEXT NOT NULL DEFAULT '[]'
) STRICT;
INSERT INTO "claim" VALUES('T1','agent-01/1',1,'2026-03-14T17:00:00.000000+00:00','read, then write','["src"]');
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
INSERT INTO "excuse" VALUES(1,'torture/c','flaky','2026-03-14T17:00:00.000000+00:00',NULL,'passed and failed on main m1, 2 of 3 runs','run','T4',NULL);
INSERT INTO "excuse" VALUES(2,'torture/a','waived','2026-03-14T17:00:00.000000+00:00','2026-03-16T17:00:00.000000+00:00','the table is rewritten','person','',NULL);
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    kind TEXT NOT NULL,
    seat TEXT NOT NULL DEFAULT '',
    data TEXT NOT NULL
) STRICT;
INSERT INTO "journal" VALUES(1,'2026-03-14T17:00:00.000000+00:00',1,'run-started','','{"agents": 2, "by": "person", "lock": "0000000000000000000000000000000000000000000000000000000000000000", "models": ["scripted:team.toml"], "name": "golden", "project": "hello"}');
INSERT INTO "journal" VALUES(2,'2026-03-14T17:00:00.000000+00:00',1,'session-started','agent-01','{"base": "base", "model": "scripted:team.toml", "role": "builder", "session": "agent-01/1"}');
INSERT INTO "journal" VALUES(3,'2026-03-14T17:00:00.000000+00:00',1,'session-started','agent-02','{"base": "base", "model": "scripted:team.toml", "role": "builder", "session": "agent-02/1"}');
INSERT INTO "journal" VALUES(4,'2026-03-14T17:00:00.000000+00:00',1,'task-added','','{"by": "project", "cases": 1, "source": "project", "task": "T1", "title": "lexer"}');
INSERT INTO "journal" VALUES(5,'2026-03-14T17:00:00.000000+00:00',1,'task-added','','{"by": "agent-02/1", "cases": 1, "source": "planner", "task": "T2", "title": "parser"}');
INSERT INTO "journal" VALUES(6,'2026-03-14T17:00:00.000000+00:00',1,'task-added','','{"by": "run", "cases": 1, "source": "cases", "task": "T3", "title": "torture/c: exit 134"}');
INSERT INTO "journal" VALUES(7,'2026-03-14T17:00:00.000000+00:00',1,'claimed','agent-01','{"plan": "read, then write", "session": "agent-01/1", "task": "T1"}');
INSERT INTO "journal" VALUES(8,'2026-03-14T17:00:00.000000+00:00',1,'noted','agent-01','{"session": "agent-01/1", "text": "look at the table", "topic": "T1"}');
INSERT INTO "journal" VALUES(9,'2026-03-14T17:00:00.000000+00:00',1,'call','agent-01','{"brief": "make", "failed": false, "name": "shell", "seconds": 1.5, "session": "agent-01/1", "turn": 1}');
INSERT INTO "journal" VALUES(10,'2026-03-14T17:00:00.000000+00:00',1,'submitted','agent-01','{"added": 0, "change": "C1", "fixes": [], "removed": 0, "session": "agent-01/1", "task": "T1"}');
INSERT INTO "journal" VALUES(11,'2026-03-14T17:00:00.000000+00:00',1,'landing','','{"change": "C1", "new": "m1", "old": "b0", "scorecard": 1}');
INSERT INTO "journal" VALUES(12,'2026-03-14T17:00:00.000000+00:00',1,'task-added','','{"by": "run", "cases": 0, "source": "flaky", "task": "T4", "title": "torture/c is flaky on main"}');
INSERT INTO "journal" VALUES(13,'2026-03-14T17:00:00.000000+00:00',1,'quarantined','','{"case": "torture/c", "evidence": "passed and failed on main m1, 2 of 3 runs", "task": "T4"}');
INSERT INTO "journal" VALUES(14,'2026-03-14T17:00:00.000000+00:00',1,'waived','','{"by": "person", "cases": ["torture/a"], "expires": "2026-03-16T17:00:00+00:00", "reason": "the table is rewritten"}');
INSERT INTO "journal" VALUES(15,'2026-03-14T17:00:00.000000+00:00',1,'session-ended','agent-02','{"end": "finished", "note": "nothing left", "session": "agent-02/1", "turns": 0}');
CREATE TABLE judged (
    suite TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    scorecard INTEGER NOT NULL,
    PRIMARY KEY (suite, ordinal, scorecard)
) STRICT, WITHOUT ROWID;
INSERT INTO "judged" VALUES('',0,1);
INSERT INTO "judged" VALUES('torture',0,1);
CREATE TABLE landing (
    number INTEGER PRIMARY KEY,
    change TEXT NOT NULL UNIQUE,
    old TEXT NOT NULL,
    new TEXT NOT NULL UNIQUE,
    scorecard INTEGER NOT NULL REFERENCES scorecard (id),
    at TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO "landing" VALUES(1,'C1','b0','m1',1,'2026-03-14T17:00:00.000000+00:00',0);
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL,
    turn INTEGER,
    at TEXT NOT NULL,
    sender TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;
INSERT INTO "message" VALUES(1,'agent-01/1',1,'2026-03-14T17:00:00.000000+00:00','person','[person] Prefer small steps.');
CREATE TABLE note (
    topic TEXT NOT NULL,
    session TEXT NOT NULL,
    at TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (topic, session)
) STRICT, WITHOUT ROWID;
INSERT INTO "note" VALUES('T1','agent-01/1','2026-03-14T17:00:00.000000+00:00','look at the table');
CREATE TABLE payload (hash TEXT PRIMARY KEY, size INTEGER NOT NULL, body BLOB NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "payload" VALUES('4b16beb21c1b9d57d9324dd249f1a77e2e95beafa1155cebb46b1288a85ad542',152,X'7801358DBD0AC3300C845FC5682E894D32F50132772F1D5247C4A2C606FF9082C9BBC7376490E0BB3B9D1A7DABF88D9EEA6D06FD5044984F5F996D0C5BEE0EE9C1680D234BB00C0560DD1A7646A09D1D0F173DBC4625A652138F2B922F446FC54259F82F459969269C79093F74E0F7C1B2BB02382F4BFC2A57');
INSERT INTO "payload" VALUES('7b84c4cb86c2432894efb43ff4ffa3951249b6001817da5d7cc0b0f86d9b712b',18,X'78018BCC2F55482C4A554854482ACDCC49492DD203003BA7064C');
INSERT INTO "payload" VALUES('c22995adc29757a99bc9242926a5d5b5a8007ecc78f30943161cf072af42d9d2',6,X'78014BADC82C51300000082C020B');
INSERT INTO "payload" VALUES('e015cce65f3605b3c1003a5a0b92cc86ea8281d082a9bc79ed9b20c2f49ff0c6',328,X'78016D90416AC4300C45AF12B41E8664D1CDDCA0672825A88E48CC4856B015D26272F75A9961E8A23BEBFFF7BF842B7CB1867B815BF751C1E8DBDA0BDEBB3D325FE1D281FDACE4D2691D97AE02E679134AE6990A4145304D8E08DE091A0294B36657BC209E5E40E671F039A19C856521E6BF1B1C81E3B321A213B1E74BC871359A6E46285753390319F7712B387B4DF57DC57475DC54B978E5CB858061A13113FA157DB31EC29EA3D1382CFF886FF214635A37FF8DA1EF3DA89BBDE636B6CAA229A6D9E9E3F805BC516462');
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
INSERT INTO "regression" VALUES('torture/c',0,1,'2026-03-14T17:00:00.000000+00:00',1,'ERROR torture/c: exit 134',1,0,'T3',NULL);
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
INSERT INTO "run" VALUES(1,'golden',1,'running','','',0.0,'{}');
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
INSERT INTO "scorecard" VALUES(1,'t1','m1','full','2026-03-14T17:00:00.000000+00:00',0.0,1,'','','','4b16beb21c1b9d57d9324dd249f1a77e2e95beafa1155cebb46b1288a85ad542','{"torture": [1, 2]}');
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
INSERT INTO "session" VALUES('agent-01/1','agent-01',1,'builder','scripted:team.toml','active','2026-03-14T17:00:00.000000+00:00','base','','','7b84c4cb86c2432894efb43ff4ffa3951249b6001817da5d7cc0b0f86d9b712b',0,'token of agent-01',1,NULL,'','');
INSERT INTO "session" VALUES('agent-02/1','agent-02',1,'builder','scripted:team.toml','ended','2026-03-14T17:00:00.000000+00:00','base','','','7b84c4cb86c2432894efb43ff4ffa3951249b6001817da5d7cc0b0f86d9b712b',0,'token of agent-02',0,'2026-03-14T17:00:00.000000+00:00','finished','nothing left');
CREATE TABLE shown_case (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, suite TEXT NOT NULL) STRICT;
INSERT INTO "shown_case" VALUES(1,'torture/a','torture');
INSERT INTO "shown_case" VALUES(2,'torture/c','torture');
CREATE TABLE spending (state TEXT PRIMARY KEY, amount INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "spending" VALUES('in-doubt',4806);
INSERT INTO "spending" VALUES('reserved',0);
INSERT INTO "spending" VALUES('settled',4500);
CREATE TABLE summary (
    session TEXT NOT NULL REFERENCES session (id),
    turns INTEGER NOT NULL,
    text TEXT NOT NULL,
    reply TEXT NOT NULL,
    PRIMARY KEY (session, turns)
) STRICT, WITHOUT ROWID;
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
INSERT INTO "task" VALUES('T1',1,'lexer','claimed','project','2026-03-14T17:00:00.000000+00:00','project','first','["torture/a"]','["src"]','[]','',1.5,'',0,0,'');
INSERT INTO "task" VALUES('T2',2,'parser','ready','planner','2026-03-14T17:00:00.000000+00:00','agent-02/1','','["torture/b*"]','[]','["T1"]','',0.0,'',0,0,'');
INSERT INTO "task" VALUES('T3',3,'torture/c: exit 134','ready','cases','2026-03-14T17:00:00.000000+00:00','run','','["torture/c"]','[]','[]','torture|exit 134',0.0,'',0,0,'');
INSERT INTO "task" VALUES('T4',4,'torture/c is flaky on main','ready','flaky','2026-03-14T17:00:00.000000+00:00','run','passed and failed on main m1, 2 of 3 runs. Main may lose it meanwhile; it counts again after a change for this task and 5 mains in a row that pass it. One passing `verify torture/c` proves nothing: repeat it.','[]','[]','[]','',0.0,'',0,0,'');
CREATE TABLE turn (
    session TEXT NOT NULL REFERENCES session (id),
    number INTEGER NOT NULL,
    at TEXT NOT NULL,
    reply TEXT NOT NULL,
    PRIMARY KEY (session, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "turn" VALUES('agent-01/1',1,'2026-03-14T17:00:00.000000+00:00','e015cce65f3605b3c1003a5a0b92cc86ea8281d082a9bc79ed9b20c2f49ff0c6');
CREATE INDEX journal_kind ON journal (kind, seq);
CREATE INDEX journal_seat ON journal (seat, seq);
CREATE INDEX task_state ON task (state);
CREATE INDEX task_signatures ON task (signature, number) WHERE signature <> '';
CREATE UNIQUE INDEX task_signature ON task (signature) WHERE signature <> '' AND state IN ('ready', 'claimed');
CREATE INDEX session_live ON session (state) WHERE state <> 'ended';
CREATE INDEX call_live ON call (session) WHERE state <> 'done';
CREATE INDEX message_session ON message (session, turn);
CREATE INDEX change_live ON change (state) WHERE state NOT IN ('landed', 'bounced', 'withdrawn');
CREATE INDEX scorecard_commit ON scorecard (commit_id, tier);
CREATE INDEX scorecard_tree ON scorecard (tree, tier);
CREATE INDEX attempt_reserved ON attempt (id) WHERE state = 'reserved';
CREATE INDEX attempt_session ON attempt (session, turn);
CREATE INDEX attempt_amount ON attempt (state, amount);
CREATE INDEX attempt_session_amount ON attempt (session, state, amount);
CREATE INDEX regression_open ON regression (culprit) WHERE culprit IS NULL OR revert IS NULL;
CREATE INDEX scorecard_main ON scorecard (id) WHERE tier = 'main';
CREATE UNIQUE INDEX excuse_standing ON excuse (case_id, kind) WHERE ended IS NULL;
CREATE TRIGGER attempt_added AFTER INSERT ON attempt BEGIN
    INSERT INTO spending VALUES (NEW.state, NEW.amount)
        ON CONFLICT (state) DO UPDATE SET amount = amount + excluded.amount;
END;
CREATE TRIGGER attempt_changed AFTER UPDATE ON attempt BEGIN
    UPDATE spending SET amount = amount - OLD.amount WHERE state = OLD.state;
    INSERT INTO spending VALUES (NEW.state, NEW.amount)
        ON CONFLICT (state) DO UPDATE SET amount = amount + excluded.amount;
END;
COMMIT;
PRAGMA user_version = 3;
