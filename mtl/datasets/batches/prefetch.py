"""Reading ahead: the next batches are read by threads while the one before them is trained on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")


def read_ahead(read: Callable[[Item], Read], items: Iterable[Item], threads: int = 1) -> Iterator[Read]:
    """read(item) of each item, in order; as many items as there are threads are read ahead.

    Items are taken from their iterable by the caller, one after the other, so that what they draw comes in its order.
    An error of `read` is raised at its item, with the traceback of the thread. The threads end with the last item, at
    an error, and when the iterator is closed or dropped before its end.
    """
    waiting: deque[Future[Read]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="parsimony-reader")
    try:
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
