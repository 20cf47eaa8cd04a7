"""What machines of others need to know: names that they take, and how ours are set up on them."""

from __future__ import annotations

import re
from pathlib import Path

from nanogpt_jax.errors import ConfigError

RUNS = "/runs"  # where run directories are, on every machine and in every container

# Images for accelerators come with a Python that may be older than ours; uv brings one.
SETUP = """\
export PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || python3 -m pip install --quiet --user uv
uv python install --quiet 3.11
PYTHON=$(uv python find 3.11) scripts/run true
"""


def label(text: str) -> str:
    """A name that Kubernetes, Google Cloud and SkyPilot take, as near to `text` as there is."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return plain if plain[:1].isalpha() else f"run-{plain}".strip("-")


def is_label(text: str) -> bool:
    """Whether `text` is such a name, with room for what Kubernetes adds to it."""
    return text == label(text) and len(text) <= 40


def checkout() -> Path:
    """The folder of the repository, which goes to the machines."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "scripts/run").is_file():
        raise ConfigError(
            f"found no scripts/run in {root}, required to set up other machines: "
            "start this from a checkout of the repository"
        )
    return root


def shipped(config: str) -> str:
    """`PATH[:ARGUMENT]` of a config as it is called in a copy of the repository."""
    path, colon, argument = config.partition(":")
    root, absolute = checkout(), Path(path).expanduser().resolve()
    if not absolute.is_relative_to(root):
        raise ConfigError(
            f"--config={config} is not in {root}, which is all that the machines get: copy it there"
        )
    return f"{absolute.relative_to(root)}{colon}{argument}"


def indent(text: str, spaces: int) -> str:
    """`text` as a block of YAML."""
    return "".join(f"{' ' * spaces}{line}\n" if line else "\n" for line in text.splitlines())
