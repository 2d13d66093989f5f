"""Work for one certain thread, and its answer back in the event loop.

`anyio.to_thread` takes any thread of a pool, and passes through the loop five times for each call; here it is once.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import current_token

T = TypeVar("T")


def loop_caller() -> Callable[..., Any]:
    """What hands a call with its arguments to this event loop from another thread."""
    loop = current_token().native_token
    soon: Callable[..., Any] = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon  # type: ignore[attr-defined]
    return soon


async def done_by(thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """What `work` returns or raises in that thread. Not cancelled once it is handed over."""
    done, soon = anyio.Event(), loop_caller()
    answer = thread.submit(work)
    answer.add_done_callback(lambda _: soon(done.set))
    with anyio.CancelScope(shield=True):
        await done.wait()
    return answer.result()
