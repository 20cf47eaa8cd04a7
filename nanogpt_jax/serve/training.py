"""Training beside serving: one run at a time, in a process of its own, told by its manifest.

The run has the config of the served one, changed by its recipe, lies in `<home>/runs/<uuid>/` and
is a run directory as any other; `home` is the run that the server was started with. When it is
done, it is what is served. It ends with the server; where a server was killed, its run goes on
unobserved.

What a client may ask for, and in which form, is decided in api/training.py.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging

from nanogpt_jax import checkpoint, record
from nanogpt_jax.errors import NanogptError, NoCheckpoint
from nanogpt_jax.serve import manifest as manifests
from nanogpt_jax.serve import recorded
from nanogpt_jax.serve.manifest import Manifest, TrainingRequest
from nanogpt_jax.serve.recipes import changes_of
from nanogpt_jax.serve.service import Service
from nanogpt_jax.serve.trainer import Launch, Overrides, Trainer, command, device_refusal, failed

_STEP = re.compile("0|[1-9][0-9]{0,17}")


class RunInProgress(NanogptError):
    """Another run is under way."""

    def __init__(self, run_id: str):
        super().__init__(f"run {run_id} is under way: wait for it, or stop it")
        self.run_id = run_id


class TrainingUnavailable(NanogptError):
    """This server cannot train."""


class UnknownCheckpoint(NanogptError):
    """No checkpoint has the name that a run should start from."""


@dataclasses.dataclass
class _Run:
    """The run that was started last; `manifest` is what its file says."""

    manifest: Manifest
    trainer: Trainer
    thread: threading.Thread | None = None

    @property
    def active(self) -> bool:
        return self.manifest.status == "running"


class TrainingRuns:
    """The training runs of a server; any thread may call it, and waits for files, not for runs.

    `source` says where the corpus lies, should that not be where the served run had it.
    """

    def __init__(
        self,
        service: Service,
        *,
        source: str = "",
        launch: Launch = command,
        clock: Callable[[], float] = time.time,
        poll_seconds: float = 0.5,
    ):
        self._service = service
        self._home = self._served()
        self._source = source
        self._launch, self._clock, self._poll_seconds = launch, clock, poll_seconds
        self._lock = threading.Lock()
        self._last: _Run | None = None
        self._closed = False

    def start(self, request: TrainingRequest) -> str:
        """Starts a run and returns its name; its manifest is written.

        Raises TrainingUnavailable, UnknownCheckpoint, UnfitRecipe, RunInProgress, and OSError when
        files cannot be written or the process not be started.
        """
        self._require_means()
        overrides = self._overrides(request)
        with self._lock:
            if self._closed:
                raise TrainingUnavailable("the server is about to end")
            if self._last and self._last.active:
                raise RunInProgress(self._last.manifest.run_id)
            run = self._last = self._admit(request, overrides)
            run.thread = threading.Thread(target=self._follow, args=(run,), daemon=True)
            run.thread.start()
        return run.manifest.run_id

    def find(self, run_id: str) -> Manifest | None:
        """The manifest of a run, None where no run has the name; ValueError if it is damaged."""
        with self._lock:
            if self._last and self._last.manifest.run_id == run_id:
                return self._last.manifest
            found = manifests.read(self._home, run_id)
            if found is None or found.status != "running":
                return found
            if checkpoint.is_locked(self._workdir(run_id)):
                return found
            # It ended with its server, not long after it was last heard of.
            heard = int(manifests.path_of(self._home, run_id).stat().st_mtime)
            found = found.model_copy(update={"status": "interrupted", "ended_at_unix": heard})
            found.save(self._home)
            return found

    def stop(self, run_id: str) -> bool:
        """Asks a run to save and end; False if it is not the one under way."""
        with self._lock:
            run = self._last
            if not run or run.manifest.run_id != run_id or not run.active:
                return False
            run.trainer.stop()
            return True

    def close(self, patience_seconds: float = 20.0) -> None:
        """Stops the run under way, at once when it is not done in time; none starts any more."""
        with self._lock:
            self._closed, run = True, self._last
        if run and run.thread and self.stop(run.manifest.run_id):
            run.thread.join(patience_seconds)
            run.trainer.kill()
            run.thread.join(1.0)

    def _served(self) -> Path:
        return self._service.current().workdir.resolve()

    def _workdir(self, run_id: str) -> Path:
        return self._home / "runs" / run_id

    def _require_means(self) -> None:
        """Raises TrainingUnavailable where there is no room to train, or nothing to train on."""
        if refusal := device_refusal():
            raise TrainingUnavailable(refusal)
        try:
            corpus = record.read(self._served()).corpus
        except NoCheckpoint as error:  # whose message has a path
            raise TrainingUnavailable("the files of the served run cannot be read") from error
        if not self._source and corpus["fingerprint"] == "unknown":
            raise TrainingUnavailable("what the served model was trained on is not known here")

    def _overrides(self, request: TrainingRequest) -> Overrides:
        """What differs from the config of the served run."""
        values: dict[str, object] = {
            "train.steps": request.train_steps,
            "train.max_tokens": 0,
            "train.max_seconds": 0,
            "schedule.total_steps": 0,  # as long as this run
            "optimizer.learning_rate": request.learning_rate,
            "checkpoint.every_steps": request.checkpoint_interval,
            "eval.every_steps": request.eval_interval,
            "log.tracker": "none",  # it might ask for a password, and nobody would answer
            "tokenizer.path": self._served() / "tokenizer.json",
            "init.from": "",
            "init.optimizer": False,
        }
        if self._source:
            values["data.source"] = self._source
        if request.resume_from is not None:
            workdir, step = self._find(str(request.resume_from))
            values["init.from"] = f"{workdir}:{step}"
            values["init.optimizer"] = checkpoint.read_sidecar(workdir, step).full
        if request.recipe:
            values |= changes_of(request.recipe, recorded.get_config(str(self._served())))
        return list(values.items())

    def _find(self, name: str) -> tuple[Path, int]:
        """The checkpoint of a name: a step of the served run, or what a manifest lists."""
        if named := manifests.parse_checkpoint(name):
            workdir, step = self._workdir(named[0]), named[1]
        else:
            workdir, step = self._served(), int(name) if _STEP.fullmatch(name) else -1
        if step not in checkpoint.list_steps(workdir):
            raise UnknownCheckpoint(
                "resume_from names no checkpoint of this server; a step of the served run is "
                "required, or a name that the status of a run lists"
            )
        return workdir, step

    def _admit(self, request: TrainingRequest, overrides: Overrides) -> _Run:
        """A run whose manifest is written and whose process has started."""
        manifest = Manifest(
            run_id=str(uuid.uuid4()),
            status="running",
            request=request,
            started_at_unix=int(self._clock()),
            total_steps=request.train_steps,
        )
        manifest.save(self._home)
        workdir = self._workdir(manifest.run_id)
        try:
            words = self._launch(self._served(), workdir, overrides)
            return _Run(manifest, Trainer(words, workdir, manifest.run_id))
        except OSError as error:
            ended = {"ended_at_unix": int(self._clock()), **failed(f"it did not start: {error}")}
            manifest.model_copy(update=ended).save(self._home)
            raise

    def _follow(self, run: _Run) -> None:
        """Keeps the manifest true until the run has ended, whatever happens."""
        ended = failed("the server lost sight of the run")
        try:
            done = False
            while not done:
                done = run.trainer.wait(self._poll_seconds)
                self._update(run, run.trainer.progress())
            ended = run.trainer.outcome()
            if ended["status"] == "completed":
                ended = failed("the run is trained, but the server cannot serve it")
                self._service.replace(run.trainer.workdir)
                ended = {"status": "completed"}
        except NanogptError as error:
            ended = failed(f"{ended['error']}: {error}")
        finally:
            run.trainer.kill()  # unless it has ended
            self._update(run, {"ended_at_unix": int(self._clock()), **ended})

    def _update(self, run: _Run, values: dict[str, Any]) -> None:
        """Changes a manifest, on disk first, so that nobody sees what the file does not say."""
        with self._lock:
            changed = run.manifest.model_copy(update=values)
            if changed == run.manifest:
                return
            try:
                changed.save(self._home)
            except OSError as error:  # the run itself may be well
                logging.error("the manifest of a run cannot be written: %s", error)
            run.manifest = changed
