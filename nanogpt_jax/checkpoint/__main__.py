"""`python -m nanogpt_jax.checkpoint`: what a run directory holds, in words and in digests."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import NoReturn

import jax

from nanogpt_jax import checkpoint, errors
from nanogpt_jax.checkpoint import table


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise errors.ConfigError(f"{message}; see {self.prog} --help")


def main(arguments: list[str]) -> None:
    """Runs the command."""
    parser = _Parser(prog="python -m nanogpt_jax.checkpoint", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="{ls,digest}")
    ls = commands.add_parser("ls", help="list the checkpoints of a run, oldest first")
    ls.add_argument("directory", metavar="DIR", type=Path, help="a run, or its checkpoints folder")
    ls.add_argument("--json", action="store_true", help="print the sidecars as a JSON array")
    ls.add_argument("--newest", action="store_true", help="only the newest")
    ls.set_defaults(run=_list)
    digest = commands.add_parser("digest", help="SHA-256 of every array, and of the data position")
    digest.add_argument("directory", metavar="DIR", type=Path, help="as of ls")
    digest.add_argument("step", metavar="STEP", nargs="?", default="last", help="N, last or best")
    digest.set_defaults(run=_digest)
    options = parser.parse_args(arguments)
    directory = options.directory.resolve()
    inside = directory.name == "checkpoints" and not (directory / "checkpoints").is_dir()
    options.directory = directory.parent if inside else directory
    options.run(options)


def _list(options: argparse.Namespace) -> None:
    checkpoint.choose(options.directory, "last")  # a run without any is an error
    rows = table.rows(options.directory)[-1 if options.newest else 0 :]
    print(json.dumps(rows, indent=2) if options.json else table.render(rows))


def _digest(options: argparse.Namespace) -> None:
    jax.config.update("jax_platforms", "cpu")  # an accelerator may be busy training this very run
    step = checkpoint.choose(options.directory, options.step)
    for name, value in checkpoint.digest_step(options.directory, step).items():
        print(f"{value}  {name}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except errors.NanogptError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
