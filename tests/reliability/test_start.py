"""What a process says and touches before it trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PLUGIN = """
from pathlib import Path

def initialize():
    Path(__file__).with_name("opened").touch()
"""


@pytest.mark.parametrize("flags", [[], ["--jax_platforms=cpu"]])
def test_the_first_line_names_backend_and_devices_and_cpu_opens_nothing_of_cuda(
    flags: list[str], tmp_path: Path
) -> None:
    # jax loads CUDA's libraries in the `initialize` of such a plugin; this one only leaves a mark.
    plugin = tmp_path / "jax_plugins" / "xla_cuda12"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text(PLUGIN)
    environment = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    command = ["--config=configs/tiny.py", f"--workdir={tmp_path / 'run'}", *flags]
    ended = subprocess.run(
        # There is no such corpus: the run ends as soon as it has said where it runs.
        [sys.executable, "-m", "nanogpt_jax.main", *command, "--config.data.source=text:none"],
        cwd=REPOSITORY,
        env=environment | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1 and "text:none" in ended.stderr
    first, *_ = ended.stderr.splitlines()
    assert "Unable to initialize backend" not in ended.stderr
    assert " jax " in first and " on " in first
    assert "--jax_platforms=" in first and "--jax_num_cpu_devices=" in first
    kept, programs = (tmp_path / "run/train.log").read_text().splitlines()
    assert kept == first and "compiled programs are" in programs
    assert (plugin / "opened").exists() == (not flags), "without the flag jax looks for CUDA"


def test_importing_the_loop_imports_neither_writers_of_others_nor_a_page() -> None:
    script = """
import sys
import nanogpt_jax.train
print([name for name in ("tensorboardX", "wandb", "trackio", "matplotlib") if name in sys.modules])
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (0, "[]\n"), ended.stderr
