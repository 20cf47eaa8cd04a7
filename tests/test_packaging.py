"""What is shipped: the wheel has the built inspector, the source distribution what builds it."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
COPIED = ("pyproject.toml", "README.md", "LICENSE", ".gitignore", "nanogpt_jax", "scripts")
BUILT = ("index.html", "assets/index-3f2a.js", "assets/inter-9c1b.woff2")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both distributions, of a copy of this tree with an inspector that is built."""
    tree = tmp_path_factory.mktemp("tree")
    leave_out = shutil.ignore_patterns("__pycache__", "static*")
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=leave_out)
        else:
            shutil.copy(source, tree / name)
    static = [f"nanogpt_jax/serve/static/{name}" for name in BUILT]
    made = ["ui/dist/index.html", "ui/node_modules/react/index.js", "checkpoints/tiny/run.json"]
    made += ["ui/e2e/.runs/story/run.json", "ui/.lock"]
    for name in [*static, *made, "ui/package.json", "ui/src/main.tsx"]:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("")
    build = [sys.executable, "-m", "hatchling", "build", "--directory", "shipped"]
    subprocess.run(build, cwd=tree, check=True, capture_output=True)
    return tree / "shipped"


@pytest.mark.slow
def test_the_wheel_has_the_built_inspector_and_the_package_alone(shipped: Path) -> None:
    (wheel,) = shipped.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {f"nanogpt_jax/serve/static/{name}" for name in BUILT} <= names
    assert "nanogpt_jax/serve/app.py" in names
    assert {name.split("/")[0] for name in names} == {"nanogpt_jax"}


@pytest.mark.slow
def test_the_source_distribution_has_the_sources_of_the_inspector_and_nothing_installed(
    shipped: Path,
) -> None:
    (source,) = shipped.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"ui/package.json", "ui/src/main.tsx", "scripts/build_ui"} <= names
    assert "nanogpt_jax/serve/static/index.html" in names, "a wheel of it would have no inspector"
    strange = ("ui/node_modules/", "ui/dist/", "ui/e2e/.runs/", "ui/.lock", "checkpoints/")
    assert not [name for name in names if name.startswith(strange)]
