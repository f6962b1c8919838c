"""Being asked to end by SIGINT or SIGTERM: what is at work puts away first what it has done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Request:
    """What this process was asked within `noted`.

    Attributes:
        signal: number of the first signal; ``None`` as long as there was none.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number

    def end(self) -> NoReturn:
        """End as the signal would have, with exit status 130 or 143; a process that only heard of it ends as by SIGTERM.

        Raises:
            KeyboardInterrupt: it was SIGINT.
            SystemExit: it was not.
        """
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + (self.signal or signal.SIGTERM))


@contextmanager
def noted() -> Iterator[Request]:
    """Within the block SIGINT and SIGTERM are only noted, however often they come; the block looks and ends by `Request.end`.

    A signal that is ignored stays so. Only the main thread can note signals; in another one there never is any.
    """
    request, before = Request(), {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, request._note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
