"""Draws `docs/watch.svg`: what `watch` showed of a run at some moment, from what is stored of it.

Example: python -m docs.picture logs/c-compiler-1 2026-03-14T17:43:05 docs/watch.svg    (a time in UTC)
"""

import io
import re
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from orchestrator.store import reading
from orchestrator.store.store import iso
from orchestrator.watch import live
from orchestrator.watch.live import View, look
from orchestrator.watch.queries import frame
from orchestrator.watch.render import Answer

SIZE = (112, 30)  # cells, lines
REWIND = """
DELETE FROM journal WHERE at > {at};
DELETE FROM scorecard WHERE at > {at};
DELETE FROM attempt WHERE at > {at};
DELETE FROM turn WHERE at > {at};
DELETE FROM change WHERE submitted > {at};
DELETE FROM session WHERE started > {at};
DELETE FROM claim;
UPDATE run SET state = 'running', reason = '', epoch = (SELECT max(epoch) FROM journal);
UPDATE change SET ended = NULL, state = iif(id IN (SELECT value FROM journal, json_each(data, '$.changes')
    WHERE kind = 'judging' AND seq = (SELECT max(seq) FROM journal WHERE kind IN ('judging', 'judged'))),
    'judging', 'queued') WHERE ended > {at};
UPDATE session SET ended = NULL, end = '', turns = (SELECT count(*) FROM turn WHERE session = id),
    state = iif(id IN (SELECT session FROM change WHERE state IN ('queued', 'judging')), 'waiting', 'active')
    WHERE ended IS NULL OR ended > {at};
INSERT INTO claim (task, session, epoch, since)
    SELECT data ->> 'task', data ->> 'session', epoch, at FROM journal one
    WHERE kind = 'claimed' AND data ->> 'session' IN (SELECT id FROM session WHERE state <> 'ended')
    AND NOT EXISTS (SELECT 1 FROM journal later WHERE later.seq > one.seq AND later.kind IN ('claimed', 'released')
        AND later.data ->> 'session' = one.data ->> 'session');
UPDATE call SET state = iif(julianday(started) <= julianday({at})
    AND julianday(started) + seconds / 86400 > julianday({at}), 'running', 'done');
UPDATE task SET state = iif(id IN (SELECT task FROM claim), 'claimed', state),
    bounces = (SELECT count(*) FROM journal WHERE kind = 'bounced' AND data ->> 'task' = id),
    releases = (SELECT count(*) FROM journal WHERE kind = 'released' AND data ->> 'task' = id);
"""
"""What makes the state of a run what it was: near enough to look at, and good for nothing else."""


def drawn(folder: Path, at: datetime) -> str:
    """The picture of a run at that moment. The stored state is left as it is."""
    with closing(sqlite3.connect(":memory:")) as then:
        with reading(folder / "state.db") as db:
            db.backup(then)
        then.row_factory = sqlite3.Row
        then.executescript(REWIND.format(at=f"'{iso(at)}'"))
        begin = frame(then, True, at)
        return picture(begin | look(then, begin, View()), *SIZE)


def picture(seen: Answer, width: int, height: int) -> str:
    """A frame as SVG that fetches nothing: where rich names a font of the network's, any of the reader's will do."""
    console = Console(record=True, width=width, file=io.StringIO(), highlight=False)
    console.print(live.frame(seen, View(), width, height))
    svg = console.export_svg(title=f"python -m orchestrator watch {seen['run']}")
    return re.sub(r"@font-face \{.*?\}|<!--.*?-->", "", svg, count=3, flags=re.DOTALL)


if __name__ == "__main__":
    run, moment, file = sys.argv[1:]
    Path(file).write_text(drawn(Path(run), datetime.fromisoformat(moment).replace(tzinfo=UTC)), encoding="utf-8")
