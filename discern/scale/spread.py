"""Many tasks for many processes: a function and tasks in, results as they come out.

Of this machine, or of a Ray cluster.  A process that dies costs its task a second try, not the
work.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from discern.errors import DiscernError

Function = Callable[[Any], Any]  # of a module, so that another process can find it
TRIES = 3  # of a task whose process died
AT_ONCE = 4  # tasks for each core of a cluster that wait there


def spread(function: Function, tasks: Sequence[Any], workers: int) -> Iterator[Any]:
    """Results in the order in which they are done.  Raises DiscernError where processes keep dying.

    One worker is this process itself.
    """
    if workers <= 1:
        yield from map(function, tasks)
        return
    left = dict(enumerate(tasks))
    for _ in range(TRIES):
        # spawned: a fork of a process with torch's threads can hang
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            waiting: dict[Future[Any], int] = {
                pool.submit(function, task): number for number, task in left.items()
            }
            try:
                for done in as_completed(waiting):
                    result = done.result()
                    del left[waiting[done]]
                    yield result
            except BrokenProcessPool:
                continue
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return
    raise DiscernError(
        f"worker processes died {TRIES} times, with {len(left)} tasks left: "
        "is there enough memory?  The same command goes on from here"
    )


def spread_by_ray(function: Function, tasks: Sequence[Any], address: str) -> Iterator[Any]:
    """The same on a Ray cluster; `local` starts one on this machine.

    A task whose node is lost is given to another.  Raises DiscernError where there is no cluster.
    """
    import ray

    mine = not ray.is_initialized()
    try:
        if mine:
            where = None if address == "local" else address
            ray.init(address=where, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise DiscernError(f"--ray {address}: {str(error).splitlines()[0]}") from None
    try:
        work = ray.remote(max_retries=-1, retry_exceptions=False)(function)
        most = AT_ONCE * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting: list[Any] = []
        for task in tasks:
            waiting.append(work.remote(task))
            if len(waiting) >= most:
                done, waiting = ray.wait(waiting, num_returns=1)
                yield from ray.get(done)
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            yield from ray.get(done)
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, DiscernError):
            raise cause from None
        raise
    finally:
        if mine:
            ray.shutdown()
