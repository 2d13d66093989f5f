-- What people see of a run: each query behind its name, as `queries.SQL[name]`. {PRICE} is what an attempt counts for.

--: as_of
SELECT max(at) FROM journal WHERE kind NOT IN ('revealed', 'condition-changed')

--: run
-- Its seconds of work: each epoch from its first entry to its last, the live one until now
SELECT reason, created AS since, (SELECT max(at) FROM journal WHERE kind = 'judging') AS judging_since,
    (SELECT count(*) FROM session WHERE state <> 'ended') AS sessions_live,
    settings ->> 'agents' AS agents, settings ->> 'budget' AS budget_usd,
    (SELECT CAST(round(total(julianday(until) - julianday(since)) * 86400) AS INTEGER) FROM (SELECT min(j.at) AS since,
        iif(:alive AND j.epoch = run.epoch, :at, max(j.at)) AS until FROM journal j, run GROUP BY j.epoch)) AS elapsed_s
FROM run

--: suites
-- Main as it was at :at, and how many cases more than at :hour; the seed's before it was judged
WITH main AS (SELECT id, at, counts FROM scorecard WHERE commit_id <> '' AND tier = 'full' AND void = '')
SELECT now.key AS suite, now.value ->> 0 AS passed, now.value ->> 1 AS total,
    (now.value ->> 0) - coalesce(before.value ->> 0, 0) AS delta_1h
FROM json_each((SELECT counts FROM main ORDER BY at > :at, iif(at > :at, id, -id) LIMIT 1)) now
    LEFT JOIN json_each((SELECT counts FROM main ORDER BY at > :hour, iif(at > :hour, id, -id) LIMIT 1)) before
    ON before.key = now.key

--: heldout
SELECT key AS suite, value ->> 0 AS passed, value ->> 1 AS total FROM json_each((SELECT counts FROM scorecard
    WHERE tier = 'heldout' AND void = '' ORDER BY id DESC LIMIT 1))

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
SELECT seat, ifnull(role, '') AS role, ifnull(task, '') AS task, ifnull(id, '') AS session,
    CASE WHEN ifnull(state, 'ended') = 'ended' THEN 'idle'
        WHEN over THEN 'suspended'
        WHEN state = 'waiting' OR data ->> 'why' <> '' THEN 'waiting' ELSE 'at work' END AS state,
    CASE iif(over AND state <> 'ended', 'suspended', state) WHEN 'suspended' THEN ''
        WHEN 'waiting' THEN 'a verdict' WHEN 'active' THEN ifnull(data ->> 'why', '')
        ELSE coalesce(data ->> 'reason', data ->> 'error', 'last session ended: ' || end, '') END AS why,
    iif(state = 'active', strftime('%Y-%m-%dT%H:%M:%S+00:00', at, (data ->> 'until') || ' seconds'), NULL) AS until
FROM (SELECT DISTINCT seat FROM journal WHERE seat <> ''), (SELECT state IN ('ended', 'stopped') AS over FROM run)
    LEFT JOIN (SELECT *, max(number) FROM session GROUP BY seat) USING (seat)
    LEFT JOIN (SELECT seat, data, at, max(seq) FROM journal WHERE kind IN ('seat-idle', 'seat-crashed')
        OR kind = 'waiting' AND epoch = (SELECT epoch FROM run) GROUP BY seat) USING (seat)
    LEFT JOIN claim ON session = id ORDER BY seat

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
    printf('+%d -%d on main %s, by %s', added, removed, substr(c.base, 1, 7), s.id) AS submitted,
    'refs/changes/' || c.number AS kept, CASE c.state WHEN 'landed' THEN 'on main as ' || substr(landed_as, 1, 7)
        WHEN 'bounced' THEN iif(s.state = 'ended', s.id || ' has ended (' || s.end || '); the task is on the board',
            c.seat || ' was told and works on it') WHEN 'withdrawn' THEN '' ELSE 'the gate decides' END AS next
FROM change c JOIN session s ON s.id = c.session LEFT JOIN task t ON t.id = c.task WHERE c.id = :id

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

--: why_case
-- The case on every main that was judged: with which change its outcome turned, and which task is on it. Its place is
-- looked up once in each list of cases that mains were judged by. `payload`, `outcome` and `clock` are why.py's
WITH place AS MATERIALIZED (SELECT list, key + 1 AS place
    FROM (SELECT DISTINCT cases AS list FROM scorecard WHERE tier = 'full'), json_each(payload(list))
    WHERE value = :id),
seen AS (SELECT l.number, s.at, c.id || ' ' || c.session AS by, substr(outcomes, place, 1) AS letter, details
    FROM landing l JOIN change c ON c.id = l.change JOIN scorecard s ON s.id = l.scorecard JOIN place ON list = s.cases
    WHERE l.done),
turned AS (SELECT * FROM (SELECT *, lag(letter, 1, '') OVER (ORDER BY number) AS before FROM seen)
    WHERE letter <> before)
SELECT outcome(letter) AS outcome, (SELECT value ->> 1 FROM json_each(payload(details)) WHERE key = :id) AS reason,
    group_concat(printf('%s  %-8s %s', clock(at), outcome(letter), by), char(10)) OVER (ORDER BY number) AS turned,
    coalesce((SELECT group_concat(id, ', ') FROM task WHERE state IN ('ready', 'claimed')
        AND :id IN (SELECT value FROM json_each(cases))), 'nobody') AS "on it"
FROM turned ORDER BY number DESC LIMIT 1

--: entries
-- A call whose verb has an entry of its own is not told twice.
SELECT j.*, t.title, CASE kind WHEN 'landed' THEN (
    SELECT group_concat(a.key || ' ' || coalesce(b.value ->> 0, 0) || ' → ' || (a.value ->> 0) || ' of '
        || (a.value ->> 1), ', ')
    FROM landing l JOIN scorecard s ON s.id = l.scorecard JOIN json_each(s.counts) a
    LEFT JOIN json_each((SELECT counts FROM scorecard WHERE commit_id = l.old AND tier = 'full' AND void = ''
        ORDER BY id DESC LIMIT 1)) b ON b.key = a.key
    WHERE l.change = data ->> 'change' AND coalesce(b.value ->> 0, 0) <> a.value ->> 0) END AS progress
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
WHERE commit_id <> '' AND tier IN ('full', 'heldout') AND void = '' ORDER BY at, scorecard.id

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
