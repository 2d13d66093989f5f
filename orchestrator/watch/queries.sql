-- What people see of a run: each query behind its name, as `queries.SQL[name]`. {PRICE} is what an attempt counts for.

--: as_of
SELECT at FROM journal WHERE kind NOT IN ('revealed', 'condition-changed', 'waived', 'excuse-ended')
    ORDER BY seq DESC LIMIT 1

--: run
-- Its seconds of work: each epoch from its first entry to its last, the live one until now
SELECT reason, created AS since, (SELECT max(at) FROM journal WHERE kind = 'judging') AS judging_since,
    (SELECT count(*) FROM session WHERE state <> 'ended') AS sessions_live,
    settings ->> 'agents' AS agents, settings ->> 'budget' AS budget_usd,
    (SELECT CAST(round(total(julianday(until) - julianday(since)) * 86400) AS INTEGER) FROM (SELECT min(j.at) AS since,
        iif(:alive AND j.epoch = run.epoch, :at, max(j.at)) AS until FROM journal j, run GROUP BY j.epoch)) AS elapsed_s
FROM run

--: suites
-- Main as it was at :at, and how many cases more than at :hour; the seed's before it was judged. What is judged after
-- landing is of the newest main that was
WITH main AS (SELECT tier, iif(tier = 'full', id, ifnull((SELECT number FROM landing WHERE new = commit_id), 0)) AS place,
    at, counts FROM scorecard WHERE commit_id <> '' AND tier IN ('full', 'main') AND void = '')
SELECT now.key AS suite, now.value ->> 0 AS passed, now.value ->> 1 AS total,
    (now.value ->> 0) - coalesce(before.value ->> 0, 0) AS delta_1h
FROM (SELECT 'full' AS t UNION ALL SELECT 'main')
    JOIN json_each((SELECT counts FROM main WHERE tier = t ORDER BY at > :at, iif(at > :at, place, -place) LIMIT 1)) now
    LEFT JOIN json_each((SELECT counts FROM main WHERE tier = t
        ORDER BY at > :hour, iif(at > :hour, place, -place) LIMIT 1)) before ON before.key = now.key

--: heldout
SELECT key AS suite, value ->> 0 AS passed, value ->> 1 AS total FROM json_each((SELECT counts FROM scorecard
    WHERE tier = 'heldout' AND void = '' ORDER BY (SELECT number FROM landing WHERE new = commit_id) DESC, id DESC LIMIT 1))

--: money
-- NULL is unmetered: a team without a model that costs money
SELECT iif(priced, ifnull(sum(micro), 0), NULL) AS spent_usd,
    iif(priced, ifnull(sum(micro) FILTER (WHERE at > :hour), 0), NULL) AS burn_usd_h,
    ifnull(sum(micro) FILTER (WHERE state = 'in-doubt'), 0) AS in_doubt_usd,
    count(*) FILTER (WHERE state = 'in-doubt') AS in_doubt,
    ifnull(sum(reserved) FILTER (WHERE state = 'reserved'), 0) AS reserved_usd,
    count(*) FILTER (WHERE state = 'reserved') AS reserved,
    count(*) FILTER (WHERE metered AND micro IS NULL AND state IN ('settled', 'in-doubt')) AS unpriced
FROM (SELECT EXISTS (SELECT 1 FROM run, json_each(settings, '$.models')
        WHERE value <> 'open' AND value NOT LIKE 'recorded%') AS priced)
    LEFT JOIN (SELECT *, {PRICE} AS micro FROM attempt)

--: no_money
-- Why a run ended that ran out of money and has had no other budget since
SELECT data ->> 'reason' FROM journal WHERE data ->> 'reason' LIKE 'budget:%' AND seq = (SELECT max(seq)
    FROM journal WHERE kind IN ('run-ended', 'run-stopped', 'condition-changed'))

--: divergences
-- Of a recorded team: steps that came out otherwise than they did; NULL for every other team
SELECT iif('recorded' IN (SELECT value FROM run, json_each(settings, '$.models')),
    (SELECT count(*) FROM journal WHERE kind = 'diverged'), NULL) AS n

--: seats
-- A seat's session: the one that works, else the one that waits for a verdict, else its last
SELECT seat, ifnull(role, '') AS role, ifnull(task, '') AS task, ifnull(id, '') AS session,
    CASE WHEN ifnull(state, 'ended') = 'ended' THEN 'idle'
        WHEN over THEN 'suspended'
        WHEN state = 'waiting' OR data ->> 'why' <> '' THEN 'waiting' ELSE 'at work' END AS state,
    CASE iif(over AND state <> 'ended', 'suspended', state) WHEN 'suspended' THEN ''
        WHEN 'waiting' THEN 'a verdict' WHEN 'active' THEN ifnull(data ->> 'why', '')
        ELSE coalesce(data ->> 'reason', data ->> 'error', 'last session ended: ' || end, '') END AS why,
    iif(state = 'active', strftime('%Y-%m-%dT%H:%M:%S+00:00', at, (data ->> 'until') || ' seconds'), NULL) AS until
FROM (SELECT DISTINCT seat FROM journal WHERE seat NOT IN ('', 'orchestrator')), (SELECT state IN ('ended', 'stopped') AS over FROM run)
    LEFT JOIN (SELECT *, min(CASE state WHEN 'active' THEN number WHEN 'waiting' THEN 1e6 + number ELSE 1e9 - number END)
        FROM session GROUP BY seat) USING (seat)
    LEFT JOIN (SELECT seat, data, at, max(seq) FROM journal WHERE kind IN ('seat-idle', 'seat-crashed')
        OR kind = 'waiting' AND epoch = (SELECT epoch FROM run) GROUP BY seat) USING (seat)
    LEFT JOIN claim ON session = id ORDER BY seat

--: watched
-- The seats, each with its session's task, turns and cost, what it does for how many seconds or waits for so many
-- more, and the seat's newest change
SELECT w.*, ifnull(title, '') AS title, ifnull(turns, 0) AS turns, ifnull(doing ->> 0, '') AS doing,
    iif(w.state = 'waiting', iif(until > :at, unixepoch(until) - unixepoch(:at), NULL),
        unixepoch(:at) - unixepoch(doing ->> 1)) AS seconds,
    (SELECT sum({PRICE}) FROM attempt WHERE metered AND session = w.session) AS spent_usd,
    (SELECT count(*) FROM attempt WHERE metered AND session = w.session AND {PRICE} IS NULL
        AND state IN ('settled', 'in-doubt')) AS unpriced,
    ifnull((SELECT id FROM change c WHERE c.seat = w.seat ORDER BY number DESC LIMIT 1), '') AS change
FROM (SELECT *, coalesce(
        (SELECT json_array(name, started) FROM call WHERE session = one.session AND state <> 'done'
            AND state = 'running' LIMIT 1),
        (SELECT json_array('model', at) FROM attempt WHERE session = one.session AND state = 'reserved' LIMIT 1))
        AS doing
    FROM ({seats}) one) w
    LEFT JOIN session s ON s.id = w.session LEFT JOIN task t ON t.id = w.task
ORDER BY w.state IN ('idle', 'suspended'), w.seat

--: curves
-- The share of a suite's shown cases that passed on each main, by how much of the time until :at had gone
SELECT key AS suite, (julianday(s.at) - julianday(created)) / max(julianday(:at) - julianday(created), 1e-9) AS moment,
    1.0 * (value ->> 0) / max(value ->> 1, 1) AS share
FROM run, scorecard s, json_each(counts)
WHERE commit_id <> '' AND tier = 'full' AND void = '' ORDER BY s.at, s.id

--: attention
SELECT 'gate' AS id, 'the gate is paused: ' || reason AS text FROM (SELECT kind, data ->> 'reason' AS reason
    FROM journal WHERE kind IN ('gate-paused', 'judging', 'judged', 'run-resumed') ORDER BY seq DESC LIMIT 1)
    WHERE kind = 'gate-paused'
UNION ALL SELECT seat, seat || ' crashed ' || count(*) || ' times in the last hour' FROM journal
    WHERE kind = 'seat-crashed' AND at > :hour GROUP BY seat
UNION ALL SELECT * FROM (SELECT id, printf('%s bounced %d times, given back %d times (why %s)', id, bounces,
    releases, id) FROM task WHERE state IN ('ready', 'claimed') AND max(bounces, releases) > 1
    ORDER BY bounces + releases DESC, number LIMIT 3)
UNION ALL SELECT '', value || ' is in ' || count(*) || ' open changes' FROM change, json_each(files)
    WHERE state NOT IN ('landed', 'bounced', 'withdrawn') GROUP BY value HAVING count(*) > 2

--: hot_files
-- Files in which, of the newest 200 changes, those that conflict with main do so, or which those that bounced otherwise
-- touch, more than their share: at least three of them, and the changes that touch the file at least twice as often as
-- those that leave it alone. A lost case has no file of its own: there only files count that at most half of all touch.
WITH recent AS (SELECT * FROM change ORDER BY number DESC LIMIT 200),
clash AS (SELECT recent.id, value AS file FROM journal JOIN recent ON recent.id = data ->> 'change',
    json_each(data, '$.files') WHERE kind = 'bounced'),
other AS (SELECT id FROM recent WHERE state = 'bounced' EXCEPT SELECT id FROM clash),
one AS (SELECT file, count(*) AS n, count(*) FILTER (WHERE id IN other) AS others,
        count(*) FILTER (WHERE (id, file) IN clash) AS clashes
    FROM (SELECT recent.id, value AS file FROM recent, json_each(files) UNION SELECT * FROM clash) GROUP BY file),
every AS (SELECT (SELECT count(*) FROM recent) AS of_n, (SELECT count(*) FROM other) AS of_others,
    (SELECT count(DISTINCT id) FROM clash) AS of_clashes)
SELECT '' AS id, file || ': ' || iif(clashes, printf('%d of %d conflicts, ', clashes, of_clashes), '')
    || iif(others, printf('%d of %d other bounces, ', others, of_others), '')
    || printf('%d of %d changes', n, of_n) AS text
FROM one, every
WHERE clashes > 2 AND clashes * (of_n - n) >= 2 * (of_clashes - clashes) * n
    OR others > 2 AND 2 * n <= of_n AND others * (of_n - n) >= 2 * (of_others - others) * n
ORDER BY clashes DESC, others DESC, file LIMIT 3

--: excused
-- What the ratchet lets go at :at
SELECT case_id AS "case", kind, since, until, reason, by, task FROM excuse
WHERE ended IS NULL AND ifnull(until > :at, 1) ORDER BY id

--: excuses
-- All that it ever let go, for the report
SELECT case_id AS "case", kind, strftime('%Y-%m-%d %H:%MZ', since) AS since,
    strftime('%Y-%m-%d %H:%MZ', coalesce(min(until, ended), until, ended)) AS until, reason, by, task
FROM excuse ORDER BY id

--: tasks
-- The board: what is worked on, then what is ready, best first, then the rest
SELECT id, t.state, title, json_array_length(cases) AS cases, bounces, releases, coalesce(session, '') AS session,
    (SELECT group_concat(value, ', ') FROM json_each(after)) AS after, reason
FROM task t LEFT JOIN claim ON claim.task = t.id
WHERE :show IN ('all', t.state) OR :show = 'open' AND t.state IN ('claimed', 'ready')
ORDER BY instr('claimed ready closed dropped', t.state), priority, number

--: cost
-- {key} is what a row of attempt or of landed change belongs to; without a {group} all are one row
SELECT {key} AS {by}, iif(max(metered), ifnull(sum(micro), 0), NULL) AS spent_usd,
    1.0 * sum(micro) / sum(sum(micro)) OVER () AS share, ifnull(sum(requests), 0) AS requests, ifnull(sum(landed), 0) AS landed,
    iif(max(metered), sum(micro) / nullif(sum(landed), 0), NULL) AS per_landed_usd,
    1.0 * sum(cached) / nullif(sum(prompt), 0) AS cache_hit
FROM (SELECT role, seat, a.task, coalesce(nullif(resolved, ''), a.model) AS model, substr(at, 1, 10) AS day, metered,
        micro, 1 AS requests, 0 AS landed, used ->> 'cache_read' AS cached, (used ->> 'input')
        + (used ->> 'cache_read') + (used ->> 'cache_write_5m') + (used ->> 'cache_write_1h') AS prompt
    FROM (SELECT *, {PRICE} AS micro, nullif(usage, '') AS used FROM attempt) a
        LEFT JOIN session s ON s.id = a.session
    UNION ALL SELECT s.role, s.seat, c.task, s.model, substr(c.ended, 1, 10), NULL, NULL, 0, 1, NULL, NULL
    FROM change c JOIN session s ON s.id = c.session WHERE c.state = 'landed')
{group} ORDER BY spent_usd DESC, 1

--: waste
-- What ended sessions cost that landed no change
SELECT ifnull(sum(micro) FILTER (WHERE bounced), 0) AS bounced_usd,
    ifnull(sum(micro) FILTER (WHERE NOT bounced), 0) AS given_up_usd
FROM (SELECT session, {PRICE} AS micro FROM attempt) JOIN (SELECT id,
        EXISTS (SELECT 1 FROM change WHERE session = s.id AND state = 'bounced') AS bounced
    FROM session s WHERE state = 'ended'
        AND NOT EXISTS (SELECT 1 FROM change WHERE session = s.id AND state = 'landed')) ON id = session

--: hours
SELECT round(ifnull(sum(data ->> 'seconds'), 0) * (SELECT settings ->> 'judge_cores' FROM run) / 3600, 2) AS gate,
    (SELECT round(total(seconds) / 3600, 2) FROM call WHERE name IN ('shell', 'wait')) AS seats
FROM journal WHERE kind = 'judged'

--: why_change
SELECT c.state AS outcome, c.reason, c.task || ' ' || t.title AS task, summary,
    (SELECT sum({PRICE}) FROM attempt WHERE session = s.id) AS cost_usd,
    printf('+%d -%d on main %s, by %s', added, removed, substr(c.base, 1, 7), coalesce(s.id, c.seat)) AS submitted,
    'refs/changes/' || c.number AS kept, CASE c.state WHEN 'landed' THEN 'on main as ' || substr(landed_as, 1, 7)
        WHEN 'bounced' THEN CASE s.state WHEN 'ended' THEN s.id || ' has ended (' || s.end || '); the task is on the board'
            ELSE iif(s.id <> '', c.seat || ' was told and works on it', 'the task is on the board') END WHEN 'withdrawn' THEN '' ELSE 'the gate decides' END AS next
FROM change c LEFT JOIN session s ON s.id = c.session LEFT JOIN task t ON t.id = c.task WHERE c.id = :id

--: why_task
SELECT state AS outcome, iif(c.session <> '', c.session || ' works on it', reason) AS reason, title,
    source AS "from", why, c.plan, (SELECT group_concat(value, ', ') FROM json_each(cases)) AS cases,
    (SELECT group_concat(one.id || ' ' || one.state, ', ') FROM json_each(after) JOIN task one ON one.id = value)
    AS after, printf('%d bounces, given back %d times', bounces, releases) AS tried,
    (SELECT group_concat(session || ': ' || text, '  ') FROM note WHERE topic = :id) AS notes
FROM task LEFT JOIN claim c ON c.task = id WHERE id = :id

--: why_session
SELECT iif(state = 'ended', end, state) AS outcome, note AS reason, role || ', ' || model AS who,
    substr(base, 1, 7) AS main, turns,
    (SELECT sum({PRICE}) FROM attempt WHERE session = s.id) AS cost_usd
FROM session s WHERE id = :id

--: judged
-- The verdict that decided a change
SELECT s.* FROM journal j JOIN scorecard s ON s.tree = data ->> 'tree' AND s.tier = 'full'
WHERE kind = 'judged' AND EXISTS (SELECT 1 FROM json_each(data, '$.changes') WHERE value = ?)
ORDER BY seq DESC, s.commit_id = ? DESC, s.id DESC LIMIT 1

--: case_turns
-- Where a case turned: at which commit of main it was first seen so, and which one before it was judged (`since`).
-- `found` is when it was judged, if that was after the landing.
SELECT ordinal, outcome, was, reason AS line, coalesce(l.at, seed.at) AS at, coalesce(l.new, seed.commit_id) AS "commit",
    nullif(max(own, coalesce((SELECT max(ordinal) FROM judged
        WHERE judged.suite = seen.suite AND judged.ordinal < seen.ordinal), -1)), -1) AS since,
    (SELECT iif(min(s.at) > l.at, min(s.at), NULL) FROM judged j JOIN scorecard s ON s.id = j.scorecard
        WHERE j.suite = seen.suite AND j.ordinal = seen.ordinal) AS found
FROM (SELECT cell.*, suite, lag(outcome, 1, '-') OVER (ORDER BY ordinal) AS was,
        lag(ordinal, 1, -1) OVER (ORDER BY ordinal) AS own
    FROM shown_case JOIN cell ON shown_case = number WHERE name = :case) seen
    LEFT JOIN landing l ON l.number = ordinal
    JOIN (SELECT at, commit_id FROM scorecard ORDER BY id LIMIT 1) seed
WHERE outcome <> was ORDER BY ordinal

--: case_now
-- The newest main that a case was judged on, how many landed since, and which task is on it
SELECT coalesce(l.new, (SELECT commit_id FROM scorecard ORDER BY id LIMIT 1)) AS "commit",
    (SELECT count(*) FROM landing WHERE done AND number > latest) AS unjudged, t.id AS task, claim.session AS owner
FROM (SELECT max(coalesce((SELECT max(ordinal) FROM judged j WHERE j.suite = c.suite), 0),
            coalesce((SELECT max(ordinal) FROM cell WHERE shown_case = c.number), 0)) AS latest
        FROM shown_case c WHERE name = :case)
    LEFT JOIN landing l ON l.number = latest
    LEFT JOIN task t ON t.id = (SELECT id FROM task WHERE state IN ('ready', 'claimed')
        AND EXISTS (SELECT 1 FROM json_each(cases) WHERE value = :case OR :case GLOB value) ORDER BY state, number LIMIT 1)
    LEFT JOIN claim ON claim.task = t.id

--: cases
-- Every shown case, what it is on the newest main that it was judged on, and since which landing
SELECT c.name AS "case", outcome, coalesce(l.at, (SELECT at FROM scorecard ORDER BY id LIMIT 1)) AS since,
    ifnull(l.change, '') AS change, reason AS line
FROM (SELECT number, name, (SELECT outcome FROM cell WHERE shown_case = number ORDER BY ordinal DESC LIMIT 1) AS last
        FROM shown_case WHERE :pattern IN ('', name) OR name GLOB :pattern) c
    JOIN cell ON shown_case = c.number AND ordinal = (SELECT min(ordinal) FROM cell WHERE shown_case = c.number
        AND ordinal > coalesce((SELECT max(ordinal) FROM cell WHERE shown_case = c.number AND outcome <> last), -1))
    LEFT JOIN landing l ON l.number = ordinal
WHERE NOT (:failing AND outcome IN ('P', 'S')) ORDER BY c.name

--: losses
-- A case that passed at an earlier main and did not at a later one, the newest first
SELECT name AS "case", ordinal, count(*) OVER () AS total
FROM (SELECT *, lag(outcome) OVER (PARTITION BY shown_case ORDER BY ordinal) AS was FROM cell)
    JOIN shown_case ON number = shown_case
WHERE was = 'P' AND outcome <> 'P' ORDER BY ordinal DESC, name LIMIT :most

--: entries
-- A call whose verb has an entry of its own is not told twice.
SELECT j.*, t.title, CASE kind WHEN 'landed' THEN coalesce((SELECT 'judged with ' || top.change
    FROM landing l JOIN scorecard s ON s.id = l.scorecard JOIN landing top ON top.new = s.commit_id
    WHERE l.change = data ->> 'change' AND s.commit_id <> l.new), (SELECT group_concat(a.key || ' ' || coalesce(b.value ->> 0, 0) || ' → ' || (a.value ->> 0) || ' of '
        || (a.value ->> 1), ', ')
    FROM landing l JOIN scorecard s ON s.id = l.scorecard AND s.commit_id = l.new JOIN json_each(s.counts) a
    LEFT JOIN json_each((SELECT counts FROM scorecard WHERE id < s.id AND commit_id <> '' AND tier = 'full' AND void = ''
        ORDER BY id DESC LIMIT 1)) b ON b.key = a.key
    WHERE l.change = data ->> 'change' AND coalesce(b.value ->> 0, 0) <> a.value ->> 0)) END AS progress
FROM journal j LEFT JOIN task t ON t.id = data ->> 'task'
WHERE NOT (kind = 'call' AND data ->> 'name' IN ('claim', 'verify', 'submit', 'release', 'note')
    AND NOT data ->> 'failed') AND ({where}) ORDER BY seq

--: who_did_what
SELECT seat, max(role) AS role, max(model) AS model, count(*) AS sessions, sum(turns) AS turns,
    (SELECT count(*) FROM change WHERE seat = s.seat AND state = 'landed') AS landed,
    (SELECT count(*) FROM change WHERE seat = s.seat AND state = 'bounced') AS bounced,
    (SELECT sum(data ->> 'gained') FROM journal WHERE seat = s.seat AND kind = 'landed') AS cases_gained,
    (SELECT sum({PRICE}) FROM attempt WHERE metered AND session LIKE s.seat || '/%') AS spent_usd
FROM session s GROUP BY seat ORDER BY seat

--: cases_over_time
-- A curve of the report, as the two after it: name, whether it is dashed, hour, value.
SELECT key, tier = 'heldout', (julianday(at) - (SELECT julianday(created) FROM run)) * 24,
    100.0 * (value ->> 0) / max(value ->> 1, 1)
FROM scorecard, json_each(counts)
WHERE commit_id <> '' AND tier IN ('full', 'main', 'heldout') AND void = '' ORDER BY at, scorecard.id

--: changes_over_time
SELECT kind, 0, (julianday(at) - (SELECT julianday(created) FROM run)) * 24,
    count(*) OVER (PARTITION BY kind ORDER BY seq)
FROM journal WHERE kind IN ('landed', 'bounced') ORDER BY seq

--: money_over_time
SELECT '$', 0, (julianday(at) - (SELECT julianday(created) FROM run)) * 24,
    sum({PRICE}) OVER (ORDER BY at, id) / 1e6
FROM attempt WHERE metered

--: requests
-- Every request in order, as far as all have come to their end.
SELECT id, at, session, turn, task, coalesce(nullif(resolved, ''), model) AS model, state,
    CASE WHEN state = 'free' THEN '0' WHEN {PRICE} IS NULL THEN 'unknown'
        ELSE printf('%d.%06d', {PRICE} / 1000000, {PRICE} % 1000000) END AS usd,
    coalesce(nullif(usage, '') ->> 'input', 0) AS input,
    coalesce(nullif(usage, '') ->> 'output', 0) AS output,
    coalesce(nullif(usage, '') ->> 'cache_read', 0) AS cache_read,
    coalesce(nullif(usage, '') ->> 'cache_write_5m', 0) AS cache_write_5m,
    coalesce(nullif(usage, '') ->> 'cache_write_1h', 0) AS cache_write_1h,
    coalesce(nullif(usage, '') ->> 'reasoning', 0) AS reasoning
FROM attempt WHERE id > ? AND id < ifnull((SELECT min(id) FROM attempt WHERE state = 'reserved'), id + 1)
ORDER BY id
