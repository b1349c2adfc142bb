"""Work in other processes, of which any may die without taking the others along, and which end with this one."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Ended(Exception):
    """The process that worked on an item ended, with this exit code, and left no result."""

    def __init__(self, exit_code: int | None) -> None:
        self.exit_code = exit_code
        killed = exit_code == -signal.SIGKILL
        super().__init__("killed, as for lack of memory" if killed else f"its process ended with code {exit_code}")


def each(
    task: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    processes: int,
    first: Callable[[], None] | None = None,
) -> Iterator[tuple[Item, Result | Ended]]:
    """Yield every item with the result of `task`, in the order in which they are done.

    With one process the work is done here, else in `processes` new ones (spawn), which functions and items must be able
    to travel to; each begins with `first`. They end with this one, whatever ends it: at the end of their pipe.
    """
    if processes < 2 or len(items) < 2:
        for item in items:
            yield item, task(item)
        return
    context = multiprocessing.get_context("spawn")
    waiting = deque(items)
    hands: dict[Connection, tuple[SpawnProcess, Item]] = {}

    def give(item: Item, pipe: Connection, process: SpawnProcess) -> None:
        try:
            pipe.send(item)
        except (BrokenPipeError, ConnectionResetError):  # it died while it waited
            pipe.close()
            begin(item)
        else:
            hands[pipe] = process, item

    def begin(item: Item) -> None:
        pipe, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, task, first), daemon=True)
        process.start()
        theirs.close()  # or the end of the process would not be the end of the pipe
        hands[pipe] = process, item
        with suppress(BrokenPipeError, ConnectionResetError):  # dead already: the end of its pipe says so below
            pipe.send(item)

    try:
        for _ in range(min(processes, len(items))):
            begin(waiting.popleft())
        while hands:
            for ready in wait(list(hands)):
                pipe = next(known for known in hands if known is ready)
                process, item = hands.pop(pipe)
                result: Result | Ended
                try:
                    result = pipe.recv()
                except (EOFError, OSError):
                    process.join()
                    result = Ended(process.exitcode)
                    pipe.close()
                    if waiting:
                        begin(waiting.popleft())
                else:
                    if waiting:
                        give(waiting.popleft(), pipe, process)
                    else:
                        pipe.close()
                yield item, result
    finally:
        for pipe, (process, _) in hands.items():
            process.terminate()
            pipe.close()


def alone(task: Callable[[Item], Result], item: Item) -> Result | Ended:
    """Run `task` on one item in a new process (spawn) that has done nothing before; it ends with this one."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, task, None), daemon=True)
    process.start()
    theirs.close()
    try:
        pipe.send(item)
        result: Result = pipe.recv()
        return result
    except (EOFError, OSError):
        process.join()
        return Ended(process.exitcode)
    finally:
        process.terminate()
        process.join()
        pipe.close()


def _work(pipe: Connection, task: Callable[[Item], Result], first: Callable[[], None] | None) -> None:
    """Answer items until the other end is closed. Ctrl-C is for the parent to act on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if first:
        first()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            pipe.send(task(pipe.recv()))
