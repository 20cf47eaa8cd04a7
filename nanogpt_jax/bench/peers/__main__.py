"""Our server with a peer in the engine's place: what `bench serve` starts beside ours.

python -m nanogpt_jax.bench.peers --workdir=RUN [--step=N|last|best] [--port=0] [--slots=8] ...

Of the routes only /v1 and the probes have what they need. No training, no reload, no drafts.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, cast

from nanogpt_jax import checkpoint, cli, experiment
from nanogpt_jax.bench.peers.transformers_engine import TransformersEngine
from nanogpt_jax.checkpoint import Sidecar
from nanogpt_jax.errors import MissingExtra
from nanogpt_jax.registry import non_negative
from nanogpt_jax.serve import journal
from nanogpt_jax.serve.engine import Engine
from nanogpt_jax.serve.limits import Caps
from nanogpt_jax.serve.service import Served, Service


class PeerService:
    """What the routes of /v1 ask of a `Service`: one run, one engine, for good."""

    def __init__(self, workdir: Path, step: str, caps: Caps):
        run = experiment.load(workdir, step)
        engine = TransformersEngine(run, slots=caps.slots, queue_length=caps.queue_length)
        engine.start()
        self.started = time.monotonic()
        # It has the methods of an Engine, and no ancestor in common.
        self._served = Served(workdir, run, cast(Engine, engine), checkpoint_sha256="0" * 64)

    def current(self) -> Served:
        """What is served."""
        return self._served

    def checkpoints(self) -> list[Sidecar]:
        """What the run has saved."""
        return checkpoint.read_sidecars(self._served.workdir)


def main(
    *,
    workdir: cli.Workdir,
    step: cli.Step = "last",
    port: Annotated[int, "port to listen at; 0 = a free one", non_negative] = 0,
    caps: Caps,
) -> None:
    """Serves until SIGTERM."""
    try:
        from nanogpt_jax.serve import app, lifecycle
        from nanogpt_jax.serve.connection import patience_of
    except ModuleNotFoundError as error:
        raise MissingExtra("the server", "serve") from error

    with lifecycle.bind("127.0.0.1", port) as listener:
        journal.install()
        service = PeerService(workdir, step, caps)
        engine = service.current().engine
        application = app.build_app(cast(Service, service), caps)
        observe = application.state.metrics.count_request
        lifecycle.Server(
            application,
            patience_of(caps, busy_seconds=engine.busy_seconds, observe=observe),
            drain=lambda: engine.drain(caps.drain_seconds),
            is_ready=lambda: engine.state == "ready",
            is_dead=lambda: engine.state == "dead",
            announce=lambda: print(f"serving on {lifecycle.address_of(listener)}", flush=True),
        ).run([listener])
        engine.close()


if __name__ == "__main__":
    cli.run(main, __doc__)
