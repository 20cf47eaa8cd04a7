"""Config files: Python files with `get_config()`, found by path, never imported by name.

Whatever goes wrong in one is a ConfigError that says where.
"""

from __future__ import annotations

import importlib.util
import inspect
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from nanogpt_jax.config import Settings
from nanogpt_jax.errors import ConfigError


def load_config(path: str) -> Settings:
    """`get_config()`, or `get_config(ARGUMENT)`, of the Python file PATH[:ARGUMENT]."""
    module = _load(path)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"--config={path}: the file defines no get_config()")
    config = _call(path, module.get_config)
    if not isinstance(config, ConfigDict):
        raise ConfigError(
            f"--config={path}: get_config() must return a ConfigDict, as default_config() makes "
            f"it; it returned {config!r}"
        )
    return config


def load_variants(path: str) -> dict[str, dict[str, Any]]:
    """The runs that a config file compares, as {name: {address: value}}; empty for one run."""
    module = _load(path)
    return _call(path, module.get_variants) if hasattr(module, "get_variants") else {}


def load_phases(path: str) -> dict[str, dict[str, Any]]:
    """The phases that a config file trains in order, likewise; empty for a run in one."""
    module = _load(path)
    return _call(path, module.get_phases) if hasattr(module, "get_phases") else {}


def _load(path: str) -> ModuleType:
    file = Path(path.partition(":")[0])
    spec = importlib.util.spec_from_file_location("config_file", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"--config={path}: {file} is no Python file; see configs/")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the file is the user's own code and may raise anything
        raise _failed(path, error) from error
    return module


def _call(path: str, function: Any) -> Any:
    _, colon, argument = path.partition(":")
    arguments = [argument] if colon else []
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        found = f"the argument {argument!r}" if colon else "no argument after a colon"
        taken = ", ".join(inspect.signature(function).parameters) or "none"
        raise ConfigError(
            f"--config={path} gives {found}, the arguments of {function.__name__}() are: {taken}"
        ) from error
    try:
        return function(*arguments)
    except Exception as error:  # likewise
        raise _failed(path, error) from error


def _failed(path: str, error: Exception) -> ConfigError:
    """The last line of the config file that `error` passed through, and what it says."""
    file = str(Path(path.partition(":")[0]))
    lines = [at.lineno for at in traceback.extract_tb(error.__traceback__) if at.filename == file]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    where = f"{file}, line {line}" if line else file
    return ConfigError(f"{where}: {type(error).__name__}: {' '.join(str(error).split())}")
