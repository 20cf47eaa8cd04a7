"""One run on all hosts of a slice of Cloud TPU, by gcloud; the hosts find each other by themselves.

The slice is asked for once, and used again by the same command; it costs until it is deleted.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from nanogpt_jax.cloud.machines import RUNS, SETUP

ARCHIVE = "nanogpt_jax.tgz"


def on_each(name: str, words: Sequence[str], share: str) -> str:
    """What every host does: mounts the run directories, unpacks the code, trains."""
    return f"""\
set -euo pipefail
if ! mountpoint --quiet {RUNS}; then
  sudo apt-get update --quiet
  sudo apt-get install --quiet --yes nfs-common
  sudo mkdir -p {RUNS}
  sudo mount -t nfs {shlex.quote(share)} {RUNS}
fi
sudo install --directory --owner="$USER" {RUNS}/{name}
mkdir -p nanogpt_jax
tar -xzf {ARCHIVE} -C nanogpt_jax
cd nanogpt_jax
{SETUP}\
scripts/run {shlex.join(words)}
"""


def script(
    name: str,
    words: Sequence[str],
    *,
    root: Path,
    zone: str,
    accelerator: str,
    runtime: str,
    share: str,
    spot: bool,
) -> str:
    """Asks for the slice and waits for it, copies what is committed, trains on all hosts."""
    tpus, where = "gcloud compute tpus", f"{name} --zone={shlex.quote(zone)}"
    ask = f"--node-id={name} --accelerator-type={shlex.quote(accelerator)}"
    ask += f" --runtime-version={shlex.quote(runtime)}{' --spot' * spot}"
    command = shlex.quote(on_each(name, words, share))
    delete = f"{tpus} queued-resources delete {where} --force"
    return f"""#!/usr/bin/env bash
set -euo pipefail
cd {shlex.quote(str(root))}
if ! {tpus} queued-resources describe {where} >/dev/null 2>&1; then
  {tpus} queued-resources create {where} {ask}
fi
while :; do
  state=$({tpus} queued-resources describe {where} --format='value(state.state)')
  case $state in
    ACTIVE) break ;;
    FAILED | SUSPENDING | SUSPENDED)
      echo "found the slice {name} $state, required ACTIVE; delete it and start again: {delete}" >&2
      exit 1 ;;
  esac
  echo "waiting for the slice {name}: $state"
  sleep 30
done
archive=$(mktemp -d)/{ARCHIVE}
trap 'rm -r "$(dirname "$archive")"' EXIT
git archive --format=tar.gz --output="$archive" HEAD
{tpus} tpu-vm scp "$archive" {name}:{ARCHIVE} --zone={shlex.quote(zone)} --worker=all
code=0
{tpus} tpu-vm ssh {where} --worker=all --command={command} || code=$?
echo "the slice costs until it is deleted: {delete}"
exit "$code"
"""
