"""Serve a run over HTTP: OpenAI's API, the reference server's, and a look inside the model.

    python -m nanogpt_jax.serve --workdir=RUN [--step=N|last|best] [--reload] [--draft=RUN|lookup]
    python -m nanogpt_jax.serve --workdir=FOLDER --latest [--runs=FOLDER]

API keys are in the environment, NANOGPT_JAX_API_KEYS=KEY[,KEY...]; every cap below may be there
too, as NANOGPT_JAX_MAX_TOKENS=256. docs/serving.md has the routes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

from absl import logging

from nanogpt_jax import cli, experiment
from nanogpt_jax.errors import ConfigError, ExitCode, MissingExtra
from nanogpt_jax.registry import non_negative
from nanogpt_jax.runtime import describe_devices
from nanogpt_jax.serve import journal
from nanogpt_jax.serve.limits import Caps, flags_from
from nanogpt_jax.serve.policy import KEYS_VARIABLE, for_host
from nanogpt_jax.serve.service import Service, find_latest

if TYPE_CHECKING:
    from nanogpt_jax.serve.training import TrainingRuns


def main(
    *,
    workdir: cli.Workdir,
    step: cli.Step = "last",
    latest: Annotated[bool, "serve the run in workdir whose checkpoint is the newest"] = False,
    runs: Annotated[str, "folder of runs that may be looked at; the one that holds workdir"] = "",
    reload: Annotated[bool, "serve every new checkpoint of the run, as training saves it"] = False,
    draft: Annotated[str, "guess tokens ahead: a run directory, or lookup in the text"] = "",
    source: Annotated[str, "data.source to train on, should the corpus lie elsewhere now"] = "",
    host: Annotated[str, "address to listen at; others than this machine's need API keys"] = (
        "127.0.0.1"
    ),
    port: Annotated[int, "port to listen at; 0 = a free one", non_negative] = 8787,
    allowed_hosts: Annotated[str, "names that requests may be for, besides host; A,B"] = "",
    cors_origin: Annotated[str, "origins of pages that may read answers; https://A,..."] = "",
    trusted_proxies: Annotated[int, "proxies that write X-Forwarded-For", non_negative] = 0,
    caps: Caps,
) -> None:
    """Serves until SIGTERM or SIGINT, then lets generations under way end."""
    if reload and step != "last":
        raise ConfigError(f"--reload follows the newest checkpoint: leave out --step={step}")
    if runs and not Path(runs).expanduser().is_dir():
        raise ConfigError(f"--runs={runs} is no folder: name one that holds run directories")
    policy = for_host(
        host,
        keys=os.environ.get(KEYS_VARIABLE, ""),
        allowed_hosts=_split(allowed_hosts),
        cors_origins=_split(cors_origin),
        max_prompt_bytes=caps.max_prompt_bytes,
        trusted_proxies=trusted_proxies,
        receive_seconds=caps.receive_seconds,
    )
    try:
        from nanogpt_jax.serve import app, lifecycle
        from nanogpt_jax.serve.connection import patience_of
        from nanogpt_jax.serve.training import TrainingRuns
    except ModuleNotFoundError as error:
        raise MissingExtra("the server", "serve") from error

    with lifecycle.bind(host, port) as listener:
        for number in lifecycle.SIGNALS:  # until the server listens there is nothing to drain
            signal.signal(number, lambda number, frame: _leave(ExitCode.DONE))
        journal.install()
        logging.info("%s", describe_devices())
        service = _open(workdir, step, latest, runs, draft, caps)
        training = TrainingRuns(service, source=source)
        if reload:
            threading.Thread(target=service.follow, name="reload", daemon=True).start()
        application = app.build_app(service, caps, training, policy=policy)
        server = lifecycle.Server(
            application,
            patience_of(
                caps,
                busy_seconds=lambda: service.current().engine.busy_seconds(),
                observe=application.state.metrics.count_request,
                one_address=trusted_proxies > 0,
            ),
            drain=lambda: _drain(service, training, caps.drain_seconds),
            is_ready=lambda: service.current().engine.state == "ready",
            is_dead=lambda: service.current().engine.state == "dead",
            announce=lambda: _announce(service, lifecycle.address_of(listener)),
        )
        server.run([listener])
    _leave(ExitCode.FAILED if server.failed else ExitCode.DONE)


def _open(workdir: Path, step: str, latest: bool, runs: str, draft: str, caps: Caps) -> Service:
    return Service(
        find_latest(workdir) if latest else workdir,
        step,
        source="latest" if latest else "explicit",
        runs=Path(runs).expanduser() if runs else None,
        slots=caps.slots,
        queue_length=caps.queue_length,
        drafts=lambda run: experiment.open_drafts(draft, run),
    )


def _announce(service: Service, address: str) -> None:
    served = service.current()
    where = f"{served.workdir.name} step {served.run.step} on {address}"
    print(f"serving {where} (docs at /docs)", flush=True)


def _drain(service: Service, training: TrainingRuns, deadline_seconds: float) -> None:
    """Waits for generations and a training run side by side."""
    stopping = threading.Thread(target=training.close, args=(deadline_seconds,))
    stopping.start()
    service.drain(deadline_seconds)
    stopping.join()


def _leave(code: ExitCode) -> NoReturn:
    """Ends the process, whatever its threads do.

    One that compiles cannot be told to stop, and would find no interpreter when it is done.
    """
    sys.stdout.flush()
    os._exit(code)


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


if __name__ == "__main__":
    sys.argv[1:1] = flags_from(os.environ)
    cli.run(main, __doc__)
