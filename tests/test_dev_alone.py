"""How scripts/dev watches over what it has started, and when first_run trains, with fakes instead.

No run, no node, and no JAX; tests/test_dev.py has them all.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.test_dev import free_port

REPOSITORY = Path(__file__).resolve().parents[1]
WITHIN_SECONDS = 20
# Stands for scripts/run and scripts/ui: notes what it is asked for, and serves until it is told to
# end, or not at all where a file says so.
FAKE = """#!/usr/bin/env bash
here=$(cd "$(dirname "$0")/.." && pwd)
echo "${0##*/} $*" >>"$here/calls"
case "$*" in
  true) exit ;;
  *vite*) kind=pages ;;
  *serve*) kind=api ;;
esac
[[ ! -e $here/$kind-fails ]] || exit 3
[[ ! -e $here/$kind-is-stubborn ]] || trap '' TERM
echo $$ >>"$here/$kind"
while [[ ! -e $here/$kind-ends ]]; do sleep 0.1; done
"""
TAKES_ANY_RUN = "#!/usr/bin/env bash\n"


class Development:
    """scripts/dev under way in a folder of its own."""

    def __init__(self, root: Path):
        self.root = root
        (root / "scripts").mkdir()
        (root / "nanogpt_jax").mkdir()
        self.source = root / "nanogpt_jax/step.py"
        self.source.write_text("")
        shutil.copy(REPOSITORY / "scripts/dev", root / "scripts/dev")
        for name, text in {"run": FAKE, "ui": FAKE, "first_run": TAKES_ANY_RUN}.items():
            (root / "scripts" / name).write_text(text)
            (root / "scripts" / name).chmod(0o755)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # see tests/test_dev.py
        try:
            with (self.root / "log").open("wb") as log:
                ports = [f"--port={free_port()}", f"--ui_port={free_port()}"]
                self.process = subprocess.Popen(
                    [self.root / "scripts/dev", *ports], stdout=log, stderr=log
                )
        finally:
            signal.signal(signal.SIGINT, before)
        return self.process

    def say(self, name: str) -> None:
        (self.root / name).write_text("")

    def read(self, name: str) -> list[str]:
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []

    def wait_until(self, holds: Callable[[], object]) -> None:
        began = time.monotonic()
        while not holds():
            assert time.monotonic() - began < WITHIN_SECONDS, self.read("log")
            time.sleep(0.05)

    def running(self) -> list[str]:
        """Which of the fakes that served are still there."""
        pids = [*self.read("api"), *self.read("pages")]
        states = {pid: Path(f"/proc/{pid}/stat") for pid in pids}
        return [pid for pid, stat in states.items() if stat.exists()]


@pytest.fixture
def development(tmp_path: Path) -> Iterator[Development]:
    made = Development(tmp_path)
    yield made
    made.say("api-ends")
    made.say("pages-ends")
    if made.process:
        made.process.kill()
        made.process.wait()


def test_ctrl_c_ends_both_and_a_second_one_waits_for_nobody(development: Development) -> None:
    development.say("api-is-stubborn")
    process = development.start()
    development.wait_until(lambda: len(development.running()) == 2)
    process.send_signal(signal.SIGINT)
    development.wait_until(lambda: len(development.running()) == 1)
    assert process.poll() is None, "the API is waited for"
    process.send_signal(signal.SIGINT)
    assert process.wait(WITHIN_SECONDS) == 0
    assert development.running() == []


def test_an_api_that_has_ended_is_said_once_and_starts_when_a_file_changes(
    development: Development,
) -> None:
    development.say("api-fails")
    development.start()
    development.wait_until(lambda: any("the API has ended" in s for s in development.read("log")))
    time.sleep(1.5)  # another look
    assert [line for line in development.read("log") if "API" in line] == [
        "scripts/dev: the API has ended; it starts anew when a Python file changes"
    ]
    (development.root / "api-fails").unlink()
    later = time.time() + 1
    os.utime(development.source, (later, later))
    development.wait_until(lambda: development.read("api"))
    assert len(development.read("pages")) == 1, "the pages are as they were"


def test_when_the_pages_end_everything_does(development: Development) -> None:
    process = development.start()
    development.wait_until(lambda: len(development.running()) == 2)
    development.say("pages-ends")
    assert process.wait(WITHIN_SECONDS) == 1
    assert development.running() == []
    assert development.read("log")[-1].startswith("scripts/dev: the pages' server has ended")


def test_the_api_serves_the_newest_run_and_follows_it(development: Development) -> None:
    development.start()
    development.wait_until(lambda: len(development.running()) == 2)
    (call,) = (line for line in development.read("calls") if "serve" in line)
    words = call.split()
    assert words[:4] == ["run", "python", "-m", "nanogpt_jax.serve"]
    assert {"--latest", "--reload", f"--workdir={development.root}/checkpoints"} < {*words}


@pytest.mark.parametrize(
    ("folders", "trains"),
    [
        ([], True),
        (["other"], True),
        (["unusable/run.json"], True),
        (["unusable/run.json", "usable/run.json"], False),
    ],
)
def test_a_first_run_is_trained_only_where_no_run_is_usable(
    folders: list[str], trains: bool, tmp_path: Path
) -> None:
    scripts, runs = tmp_path / "scripts", tmp_path / "some runs"
    scripts.mkdir()
    shutil.copy(REPOSITORY / "scripts/first_run", scripts)
    fake = '[[ $4 != ls ]] || { echo "a table"; [[ $6 == */usable ]]; exit; }\necho "$*"\n'
    (scripts / "run").write_text(f"#!/usr/bin/env bash\n{fake}")
    (scripts / "run").chmod(0o755)
    for name in folders:
        (runs / name).mkdir(parents=True)
    ended = subprocess.run(
        [scripts / "first_run", runs], capture_output=True, text=True, check=True, timeout=20
    )
    assert ended.stdout.startswith("python -m nanogpt_jax.main ") == trains
    assert (f"--workdir={runs}/tiny" in ended.stdout) == trains
    assert ("found no usable run" in ended.stderr) == trains
    assert bool(ended.stdout) == trains
