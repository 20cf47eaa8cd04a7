"""One run on several processes: how they find each other, agree, and end together.

JAX connects them (`jax.distributed`), and its sync point makes a signal to any of them the same
last step for all. Who is alone meets none of this: no backend is started to find that out. Which
devices hold what is the business of parallel/.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn, TypeVar

import jax
import numpy as np
from absl import logging

from nanogpt_jax.errors import ConfigError, Interrupted, NanogptError, Stalled, exit_code_of
from nanogpt_jax.interrupt import Interrupt
from nanogpt_jax.registry import non_negative

# A peer that has sent no heartbeat for so long is dead; who has ended waits so long for the rest.
HEARTBEAT_SECONDS = 30
SHUTDOWN_SECONDS = 30
CONNECT_SECONDS = 300

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes of a run, where no launcher tells."""

    coordinator: Annotated[str, "HOST:PORT of the first of several processes of this run"] = ""
    num_processes: Annotated[
        int, "processes of this run; 0 = as the launcher says, 1 = this one alone", non_negative
    ] = 0
    process_id: Annotated[int, "number of this process, from 0; -1 = as the launcher says"] = -1


class Launcher(NamedTuple):
    """Who has started several processes: its name, how many there are, and which this one is.

    A `count` of 0 is known to JAX alone, by asking the machine.
    """

    name: str
    count: int
    number: int


def find_launcher(variables: Mapping[str, str], dev: Path = Path("/dev")) -> Launcher | None:
    """Who has started this process as one of several, by its environment; None: nobody."""

    def number(name: str, default: int = 0) -> int:
        text = variables.get(name, "")
        return int(text) if text.isdecimal() else default

    if number("SLURM_STEP_NUM_TASKS") > 1:  # of this step: a batch script is none of its tasks
        return Launcher("Slurm", number("SLURM_NTASKS"), number("SLURM_PROCID"))
    if (size := number("OMPI_COMM_WORLD_SIZE")) > 1:
        return Launcher("Open MPI", size, number("OMPI_COMM_WORLD_RANK"))
    hosts = len(variables.get("TPU_WORKER_HOSTNAMES", "").split(","))
    if hosts * number("MEGASCALE_NUM_SLICES", 1) > 1:
        return Launcher("GKE", 0, -1)
    # Since v5e a chip is a vfio device, which without libtpu can be anything.
    chips = [*dev.glob("accel[0-9]*"), *dev.glob("vfio/[0-9]*")]
    if chips and importlib.util.find_spec("libtpu"):
        return Launcher("Cloud TPU", 0, -1)
    return None


def join(asked: Processes) -> None:
    """Connects this process with the others of its run, if it has any; before a backend starts.

    Raises ConfigError where what is asked for does not say who they are.
    """
    if asked.num_processes == 1:
        return
    launcher = find_launcher(os.environ)
    if launcher is None and asked == Processes():
        return
    count = asked.num_processes or (launcher.count if launcher else 0)
    number = asked.process_id if asked.process_id >= 0 else launcher.number if launcher else -1
    if asked != Processes():
        _require_complete(asked.coordinator, count, number)
    # The port is for this run's machines: on loopback nobody else sees it.
    bind = asked.coordinator if asked.coordinator and number == 0 else None
    arguments: dict[str, Any] = {
        "coordinator_address": asked.coordinator or None,
        "num_processes": count or None,
        "process_id": number if number >= 0 else None,
        "coordinator_bind_address": bind,
    }
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=CONNECT_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except ValueError as error:
        if launcher is not None and launcher.name == "Cloud TPU":
            return  # a single host, of which nobody is asked
        name = launcher.name if launcher else "nobody"
        raise ConfigError(
            f"found a process of {count} started by {name}, and no address of the first "
            f"({error}): --coordinator=HOST:PORT is required, or --num_processes=1 to train alone"
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise NanogptError(
            f"process {number} of {count} has not met the others ({_first_line(error)}): see that "
            "all were started, with the same --coordinator"
        ) from error
    if not is_first():
        logging.set_verbosity(logging.WARNING)


@contextlib.contextmanager
def joined(asked: Processes) -> Iterator[None]:
    """What is done among the other processes of a run; whoever fails in here ends at once.

    Python would wait at its end for the others to leave, and they wait for it.
    """
    join(asked)
    try:
        yield
    except Interrupted:  # all are, at one step
        leave()
        raise
    except Exception as error:
        if count() == 1:
            raise
        _end(error)
    leave()


def leave() -> None:
    """Ends the connection once all have come here."""
    if count() > 1:
        jax.distributed.shutdown()


def _end(error: Exception) -> NoReturn:
    if isinstance(error, jax.errors.JaxRuntimeError):
        error = Stalled(
            f"process {jax.process_index()} of {count()} has lost the others ({_first_line(error)}"
            "): see which one ended first, and why; the same command, started for all, goes on "
            "from the newest checkpoint"
        )
    if isinstance(error, NanogptError | OSError):
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code_of(error))


def is_alone(asked: Processes) -> bool:
    """Whether this process is to be the only one of its run, as far as it was told."""
    if asked.num_processes:
        return asked.num_processes == 1
    return find_launcher(os.environ) is None


def require_alone(asked: Processes, what: str) -> None:
    """Raises ConfigError where this process is to be one of several."""
    if not is_alone(asked):
        launcher = find_launcher(os.environ)
        found = launcher.name if launcher else f"--num_processes={asked.num_processes}"
        raise ConfigError(
            f"{what} is for one process, found {found}: --num_processes=1 is required"
        )


def _require_complete(coordinator: str, count: int, number: int) -> None:
    problems = []
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        problems.append(f"--coordinator={coordinator!r}: HOST:PORT of the first is required")
    if count < 2:
        problems.append(f"--num_processes={count}: two or more are required beside --coordinator")
    elif not 0 <= number < count:
        problems.append(f"--process_id={number}: a number from 0 to {count - 1} is required")
    if problems:
        raise ConfigError(problems)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def count() -> int:
    """Processes of this run."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that writes: of several, the first."""
    return count() == 1 or jax.process_index() == 0


def meet() -> None:
    """Returns when every process has come here."""
    if count() > 1:
        from_first(lambda: 0)


def from_first(find: Callable[[], int]) -> int:
    """What `find` gives in the first process, in every one."""
    if count() == 1:
        return find()
    from jax.experimental import multihost_utils

    found = find() if is_first() else 0
    return int(multihost_utils.broadcast_one_to_all(np.int64(found)))


class Preemption(Interrupt):
    """An `Interrupt` of several processes: a signal to one is the same last step for all.

    JAX has the handler of SIGTERM and agrees on the step, a step or two ahead; Ctrl-C is made one.
    """

    def asks(self, step: int) -> bool:
        """Whether to save and end at `step`; to be asked at every step, by every process."""
        from jax.experimental import multihost_utils

        self.requested = multihost_utils.reached_preemption_sync_point(step)
        return self.requested

    def __enter__(self) -> Preemption:
        self._before = signal.signal(signal.SIGINT, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)


def make_interrupt() -> Interrupt:
    """Who hears signals: ours, or of several processes JAX; two would be in each other's way."""
    return Preemption() if count() > 1 else Interrupt()
