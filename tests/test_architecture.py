"""The house of docs/architecture.md, read from the imports of every module."""

import ast
import importlib.util
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "nanogpt_jax"

FLOORS = {
    0: {"cache", "errors", "interface", "registry", "runtime"},
    1: {
        *(
            "attention",
            "cli",
            "cloud",
            "config",
            "distributed",
            "functional",
            "interrupt",
            "losses",
            "metrics",
        ),
        *("record", "sampling", "schema", "stops", "tokenization", "watchdog"),
    },
    2: {"attention_kernel", "costs", "data", "layers", "memory", "optim", "parallel", "state"},
    3: {
        *(
            "beam",
            "checkpoint",
            "decoding",
            "dial",
            "evaluation",
            "exact",
            "generate",
            "inspection",
        ),
        *("interop", "models", "nanochat", "slots", "speculation", "step", "telemetry"),
    },
    4: {"experiment"},
    5: {
        *(
            "audit",
            "bench",
            "chronicle",
            "comparison",
            "parting",
            "phases",
            "planning",
            "profiling",
            "replay",
            "report",
        ),
        *("serve", "start", "sweep", "train"),
    },
    6: {
        *("adopt", "chat", "evaluate", "export", "features", "main", "microgpt", "plan", "scaling"),
        *("sample", "tokenizer"),
        *(
            f"{name}.__main__"
            for name in ("bench", "checkpoint", "cloud", "microgpt", "serve", "sweep")
        ),
    },
}
# Which of our modules may import a library; those that are not here, none may.
EVERYWHERE = ("nanogpt_jax",)
LIBRARIES = {
    "absl": EVERYWHERE,
    "fastapi": ("nanogpt_jax.serve",),
    "flax": ("nanogpt_jax.layers", "nanogpt_jax.models"),
    "grain": ("nanogpt_jax.data.ahead",),
    "httpx2": ("nanogpt_jax.data.network.connection",),
    "huggingface_hub": ("nanogpt_jax.data.network.hub",),
    "jax": EVERYWHERE,
    "matplotlib": ("nanogpt_jax.comparison", "nanogpt_jax.sweep.plot"),
    "ml_collections": ("nanogpt_jax.config", "nanogpt_jax.experiment.files"),
    "numpy": EVERYWHERE,
    "optax": ("nanogpt_jax.optim", "nanogpt_jax.step"),
    "optuna": ("nanogpt_jax.sweep.study",),
    "orbax": ("nanogpt_jax.checkpoint.items",),
    "prometheus_client": ("nanogpt_jax.serve",),
    "pyarrow": ("nanogpt_jax.data.sources",),
    "rich": ("nanogpt_jax.data.network.http", "nanogpt_jax.metrics"),
    "safetensors": ("nanogpt_jax.interop.weights",),
    "scipy": ("nanogpt_jax.scaling", "nanogpt_jax.sweep.verdict"),
    "submitit": ("nanogpt_jax.sweep.slurm",),
    "tensorboardX": ("nanogpt_jax.metrics",),
    "tensorstore": ("nanogpt_jax.checkpoint",),
    "pydantic": ("nanogpt_jax.serve",),
    "starlette": ("nanogpt_jax.serve",),
    "tokenizers": ("nanogpt_jax.tokenization", "nanogpt_jax.interop.vocabulary"),
    "torch": ("nanogpt_jax.bench.peers",),
    "transformers": ("nanogpt_jax.bench.peers",),
    "uvicorn": ("nanogpt_jax.serve",),
}
# What reads no array and starts fast: words, and the grammar of the stories.
STANDARD_LIBRARY_ONLY = (
    "nanogpt_jax.errors",
    "nanogpt_jax.registry",
    "nanogpt_jax.cloud.jobset",
    "nanogpt_jax.cloud.machines",
    "nanogpt_jax.cloud.skypilot",
    "nanogpt_jax.cloud.slurm",
    "nanogpt_jax.cloud.tpu",
    "nanogpt_jax.data.sources.tales",
    "nanogpt_jax.microgpt.__main__",
    "nanogpt_jax.microgpt.names",
    "nanogpt_jax.microgpt.scalar",
)
ISLAND = ("nanogpt_jax.microgpt",)


def name_of(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(module: str) -> set[str]:
    """What `module` imports, anywhere in it: our modules, and names in libraries."""
    found: set[str] = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module} imports relatively"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = inside & TREES.keys()
            found |= submodules | ({node.module} if inside - submodules else set())
    return found


def ours(module: str) -> set[str]:
    return {name for name in imports_of(module) if name.split(".")[0] == "nanogpt_jax"}


def room(module: str) -> str:
    """The file or package at the top level that a module is in; a package's command is apart."""
    _, top, *inner = module.split(".")
    return f"{top}.__main__" if inner == ["__main__"] else top


ROOMS = {room(module) for module in TREES if module != "nanogpt_jax"}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}


def within(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def test_every_module_has_its_floor():
    assert ROOMS == FLOOR_OF.keys()
    assert sum(map(len, FLOORS.values())) == len(FLOOR_OF), "a module stands on two floors"


def test_the_reader_of_imports_sees_every_form():
    assert "nanogpt_jax.checkpoint.table" in imports_of("nanogpt_jax.checkpoint.__main__")
    assert "nanogpt_jax.checkpoint" in imports_of("nanogpt_jax.train")
    assert "matplotlib.figure" in imports_of("nanogpt_jax.comparison")  # inside a function


@pytest.mark.parametrize("module", sorted(TREES.keys() - {"nanogpt_jax"}))
def test_imports_go_down_or_sideways(module: str):
    assert {name for name in ours(module) if name not in TREES} == set()
    upwards = {name for name in ours(module) if FLOOR_OF[room(name)] > FLOOR_OF[room(module)]}
    assert upwards == set()


def test_microgpt_imports_nothing_of_ours_and_nobody_imports_it():
    bridges = {(module, name) for module in TREES for name in ours(module)}
    assert {pair for pair in bridges if within(pair[0], ISLAND) != within(pair[1], ISLAND)} == set()
    imported = {name for module in TREES if within(module, ISLAND) for name in imports_of(module)}
    libraries = {name.split(".")[0] for name in imported} - sys.stdlib_module_names
    assert libraries == {"jax", "nanogpt_jax", "numpy"}


def test_imports_have_no_cycle_between_modules_nor_between_rooms():
    list(TopologicalSorter({name: ours(name) - {name} for name in TREES}).static_order())
    rooms: dict[str, set[str]] = {name: set() for name in ROOMS}
    for module in TREES.keys() - {"nanogpt_jax"}:
        rooms[room(module)] |= {room(name) for name in ours(module)} - {room(module)}
    list(TopologicalSorter(rooms).static_order())


@pytest.mark.parametrize("module", sorted(TREES))
def test_a_library_is_imported_only_where_it_belongs(module: str):
    libraries = {name.split(".")[0] for name in imports_of(module) - ours(module)}
    libraries -= sys.stdlib_module_names
    strange = {name for name in libraries if not within(module, LIBRARIES.get(name, ()))}
    assert strange == set()
    if within(module, STANDARD_LIBRARY_ONLY):
        assert libraries == set()


@pytest.mark.parametrize("module", sorted(TREES))
def test_a_module_says_what_it_is_for_and_only_defines(module: str):
    docstring, *body = TREES[module].body
    assert ast.get_docstring(TREES[module])
    assert isinstance(docstring, ast.Expr)
    definitions = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    definitions += (ast.AsyncFunctionDef,)
    definitions += (ast.Assign, ast.AnnAssign)
    for node in body:
        if isinstance(node, ast.If):
            assert ast.unparse(node.test) in ("__name__ == '__main__'", "TYPE_CHECKING")
        else:
            assert isinstance(node, definitions), f"{module}, line {node.lineno}, does work"


def test_no_module_has_a_name_of_the_standard_library():
    """Its folder comes first on the path when `python nanogpt_jax/main.py` is run."""
    assert ROOMS & sys.stdlib_module_names == set()


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def test_importing_the_package_alone_does_not_import_jax():
    code = "import nanogpt_jax, sys; print(nanogpt_jax.__version__, 'jax' in sys.modules)"
    ended = run_python("-c", code)
    assert ended.stdout.split()[1:] == ["False"], ended.stderr


def test_importing_every_module_starts_no_backend():
    """No backend has that name, so whatever starts one fails."""
    extras = {
        "nanogpt_jax.serve": "fastapi",
        "nanogpt_jax.bench.peers": "transformers",
        "nanogpt_jax.sweep.study": "optuna",
        "nanogpt_jax.sweep.controller": "optuna",
        "nanogpt_jax.sweep.slurm": "submitit",
    }
    missing = (room for room, needed in extras.items() if importlib.util.find_spec(needed) is None)
    left_out = tuple(missing)
    imports = "\n".join(f"import {module}" for module in TREES if not within(module, left_out))
    fails = (
        "try:\n    nanogpt_jax.runtime.describe_devices()\nexcept RuntimeError:\n    print('ok')"
    )
    ended = run_python("-c", f"{imports}\n{fails}", JAX_PLATFORMS="nonsense")
    assert (ended.returncode, ended.stdout) == (0, "ok\n"), ended.stderr


def test_the_main_command_runs_as_a_file():
    ended = run_python("nanogpt_jax/main.py", "--help")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("Train a GPT") and "--require_checkpoint" in ended.stdout
