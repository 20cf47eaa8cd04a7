"""Tasks of SkyPilot (skypilot.co): one run as a managed job, on a GPU node or a TPU of any cloud.

Its run directory is kept in a bucket, so that the job goes on wherever SkyPilot starts it again.
What is mounted there is no place to train in: rclone, with which SkyPilot mounts it, brings back
files that are removed before they were uploaded, and such checkpoints are refused. So a run is on
the disk of its machine, and whole files are copied. SkyPilot appends to what a task runs: that must
not end before its last line.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nanogpt_jax.cloud.machines import RUNS, SETUP, indent
from nanogpt_jax.errors import ConfigError, ExitCode

# Whoever ended so is started again: a step that stood still, or a signal that nobody of ours sent.
AGAIN = [int(code) for code in (ExitCode.STALLED, ExitCode.INTERRUPTED, ExitCode.ABORTED)]
RESOURCES = {"use_spot": True, "job_recovery": {"recover_on_exit_codes": AGAIN}}

# A signal is for the command, which saves; then all is copied. What is copied while a checkpoint is
# pruned may be part of one, which its checksums tell whoever goes on. Buckets forget empty folders.
RUN = """\
trap : TERM
kept={kept}
run=$(mktemp -d)/$(basename "$kept")
mkdir -p "$kept" "$run"
copy() {{ mkdir -p "$2" && cp -ru --preserve=timestamps "$1/." "$2/"; }}
copy "$kept" "$run" || exit
keep() {{
  copy "$run" "$kept"
  for step in "$kept"/checkpoints/*; do
    if ! [ -e "$run/checkpoints/${{step##*/}}" ]; then rm -rf "$step"; fi
  done
}}
(trap exit TERM; while :; do sleep {seconds} >/dev/null 2>&1 & wait $!; keep; done) &
copier=$!
scripts/run {command} --workdir="$run"
code=$?
kill $copier
wait $copier
keep
(exit $code)
"""
KEEP_SECONDS = 30


def split_storage(url: str) -> tuple[str, str]:
    """A folder in a bucket as the bucket and where the folder is on the machine that mounts it."""
    found = re.fullmatch(r"((?:gs|s3)://[^/]+)((?:/[^/]+)*)/?", url)
    if found is None:
        raise ConfigError(
            f"storage={url!r}: a folder in a bucket, gs://BUCKET/FOLDER or s3://BUCKET/FOLDER, "
            "is required, where the run directories are kept"
        )
    return found[1], f"{RUNS}{found[2]}"


def task(
    name: str,
    words: Sequence[str],
    *,
    kept: str,
    root: Path,
    bucket: str,
    resources: Mapping[str, Any],
) -> str:
    """A task that trains by `words` a run directory, kept in the bucket where `kept` is mounted.

    `resources` go before our own: a spot machine.
    """
    asked = "".join(
        f"  {key}: {json.dumps(value)}\n" for key, value in {**RESOURCES, **resources}.items()
    )
    run = RUN.format(kept=shlex.quote(kept), seconds=KEEP_SECONDS, command=shlex.join(words))
    return f"""name: {name}
workdir: {json.dumps(str(root))}
resources:
{asked}\
file_mounts:
  {RUNS}:
    source: {bucket}
    mode: MOUNT_CACHED
setup: |
{indent(SETUP, 2)}\
run: |
{indent(run, 2)}"""
