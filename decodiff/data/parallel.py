"""Work on many files at once, by threads: drawing, decoding, resizing and hashing all run outside Python's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
# results that may wait for an earlier one, per thread: bounds memory
WAITING = 4


def in_order(function: Callable[[Item], Result], items: Iterable[Item], threads: int | None) -> Iterator[Result]:
    """Results of ``function`` on each item, in the items' order, computed by ``threads`` (default: all cores) at a time.

    The first error is raised in its turn, and what has not begun by then is not done.
    """
    threads = threads or os.cpu_count() or 1
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= WAITING * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
