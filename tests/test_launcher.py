"""scripts/run and .ci/run with fake interpreters: no network, and no real environment is made."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# All that the two scripts may call; a PATH of these alone hides the machine's uv and Python.
PROGRAMS = "awk bash cat cksum dirname flock grep ls mkdir mktemp mv rm sleep tee".split()

# Logs its arguments, makes an environment of copies of itself, and stands for pip and uv as well.
FAKE = """#!/usr/bin/env bash
echo "${0##*/} $*" >>"$FAKE_LOG"
case "$*" in
  *version_info*) cat "${0%/*}/version" ;;
  *"import "*ensurepip*) exit "${FAKE_ENSUREPIP_EXIT:-0}" ;;
  "-m venv "*)
    rm -rf "${!#}" && mkdir -p "${!#}/bin" && cat "${0%/*}/version" >"${!#}/bin/version"
    cat "$0" >"${!#}/bin/python" && cat "$0" >"${!#}/bin/pip" && chmod +x "${!#}"/bin/p*
    echo "version = $(cat "${0%/*}/version")" >"${!#}/pyvenv.cfg" ;;
  *"pip install"*) sleep "${FAKE_SECONDS:-0}"; exit "${FAKE_INSTALL_EXIT:-0}" ;;
esac
"""


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@dataclass
class Checkout:
    """A copy of the launcher in a folder with a space in its name, and fake programs next to it."""

    root: Path
    programs: Path

    @property
    def log(self) -> Path:
        return self.programs / "log"

    @property
    def stamp(self) -> Path:
        return self.root / ".venv" / "nanogpt-stamp"

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        sysroot = str(self.programs / "sysroot")
        fixed = {"PATH": str(self.programs), "FAKE_LOG": str(self.log), "NANOGPT_SYSROOT": sysroot}
        return {**fixed, **extra}

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.root / "scripts" / "run", *command],
            env=self.environment(variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, **variables: str) -> tuple[int, str, str]:
        with self.start(*command, **variables) as process:
            output, errors = process.communicate(timeout=20)
        return process.returncode, output, errors

    def installed(self, **variables: str) -> list[str]:
        """The calls of one start that install or make an environment; the start must succeed."""
        self.log.write_text("")
        code, _, errors = self.run("true_", **variables)
        assert code == 0, errors
        return [call for call in self.log.read_text().splitlines() if " -c " not in call]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path / "a checkout", tmp_path / "programs")
    for name in ("scripts/run", ".ci/run", "pyproject.toml", "constraints.txt"):
        (made.root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, made.root / name)
    write_program(made.programs / "python3", FAKE)
    (made.programs / "version").write_text("3.11\n")
    write_program(made.programs / "true_", "#!/usr/bin/env bash\n")
    for name in [*PROGRAMS, "chmod"]:
        found = shutil.which(name)
        if found:  # flock is not everywhere
            (made.programs / name).symlink_to(found)
    return made


def test_the_command_gets_its_arguments_as_they_are_and_its_exit_code_comes_back(
    checkout: Checkout,
) -> None:
    code, output, _ = checkout.run("bash", "-c", 'printf "%s|" "$@"; exit 7', "_", "a b", "", "*")
    assert (code, output) == (7, "a b||*|")


def test_the_launcher_becomes_the_command_so_that_signals_reach_it(checkout: Checkout) -> None:
    checkout.installed()
    with checkout.start("bash", "-c", "echo $$") as process:
        output, _ = process.communicate(timeout=20)
    assert int(output) == process.pid


def test_the_environment_comes_first_on_the_path(checkout: Checkout) -> None:
    _, output, _ = checkout.run("bash", "-c", 'echo "$PATH"')
    assert output.strip() == f"{checkout.root}/.venv/bin:{checkout.programs}"


def test_the_first_start_installs_the_package_with_dev_and_the_pins(checkout: Checkout) -> None:
    make, install = checkout.installed()
    assert make == f"python3 -m venv --clear {checkout.root}/.venv"
    assert install.startswith("python -m pip install ")
    assert "--editable .[dev] --constraint constraints.txt" in install


def test_a_start_that_is_up_to_date_starts_no_python(checkout: Checkout) -> None:
    assert checkout.installed()
    assert checkout.installed() == []
    assert checkout.log.read_text() == ""


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_file_is_installed_once_into_the_same_environment(
    checkout: Checkout, name: str
) -> None:
    checkout.installed()
    with (checkout.root / name).open("a") as file:
        file.write("# changed\n")
    (install,) = checkout.installed()
    assert "pip install" in install
    assert checkout.installed() == []


def test_a_failed_installation_stops_leaves_no_stamp_and_is_tried_again(checkout: Checkout) -> None:
    code, output, _ = checkout.run("bash", "-c", "echo started", FAKE_INSTALL_EXIT="3")
    assert code != 0 and output == ""
    assert not checkout.stamp.exists()
    (install,) = checkout.installed()
    assert "pip install" in install
    with (checkout.root / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert checkout.run("true_", FAKE_INSTALL_EXIT="3")[0] != 0
    assert not checkout.stamp.exists()


def test_extras_are_installed_once_and_stay(checkout: Checkout) -> None:
    checkout.installed()
    (install,) = checkout.installed(NANOGPT_EXTRAS="viz,bench")
    assert ".[dev,viz,bench]" in install
    assert checkout.installed(NANOGPT_EXTRAS="bench") == []
    assert checkout.installed() == []


def test_an_unknown_extra_is_named_and_nothing_is_installed(checkout: Checkout) -> None:
    code, _, errors = checkout.run("true_", NANOGPT_EXTRAS="viz,vis")
    assert code == 1 and "found no extra vis in pyproject.toml" in errors
    assert not (checkout.root / ".venv").exists()


@pytest.mark.parametrize("version", ["2.7", "3.9"])
def test_an_old_python_gives_one_line(checkout: Checkout, version: str) -> None:
    (checkout.programs / "version").write_text(f"{version}\n")
    code, _, errors = checkout.run("true_")
    assert code == 1 and len(errors.splitlines()) == 1
    assert f"found Python {version} as python3, required 3.11 or newer; name one" in errors
    assert not (checkout.root / ".venv").exists()


def test_a_python_that_cannot_make_environments_gives_one_line(checkout: Checkout) -> None:
    code, _, errors = checkout.run("true_", FAKE_ENSUREPIP_EXIT="1")
    assert code == 1 and len(errors.splitlines()) == 1
    assert "apt install python3-venv" in errors
    assert not (checkout.root / ".venv").exists()


def test_uv_is_preferred_and_compiles_byte_code(checkout: Checkout) -> None:
    write_program(checkout.programs / "uv", FAKE)
    make, install = checkout.installed(FAKE_ENSUREPIP_EXIT="1")
    assert make == f"python3 -m venv --clear --without-pip {checkout.root}/.venv"
    assert install.startswith(f"uv pip install --python {checkout.root}/.venv/bin/python")
    assert "--compile-bytecode" in install


def test_a_given_environment_is_used_as_it_is(checkout: Checkout, tmp_path: Path) -> None:
    write_program(tmp_path / "given" / "bin" / "python", FAKE)
    code, output, _ = checkout.run(
        "bash", "-c", 'echo "$PATH"', NANOGPT_PYTHON=str(tmp_path / "given/bin/python")
    )
    assert code == 0 and output.startswith(f"{tmp_path}/given/bin:")
    assert not checkout.log.exists() and not (checkout.root / ".venv").exists()


def test_another_python_makes_the_environment_anew_and_stays(checkout: Checkout) -> None:
    checkout.installed()
    write_program(checkout.programs / "newer" / "python", FAKE)
    (checkout.programs / "newer" / "version").write_text("3.12\n")
    newer = str(checkout.programs / "newer" / "python")
    assert len(checkout.installed(PYTHON=newer)) == 2
    assert (checkout.root / ".venv/bin/version").read_text() == "3.12\n"
    assert checkout.installed(PYTHON=newer) == [] and checkout.installed() == []


def test_a_moved_checkout_makes_its_environment_anew(checkout: Checkout) -> None:
    checkout.installed()
    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    assert len(checkout.installed()) == 2


def test_a_folder_with_other_things_is_not_made_an_environment(checkout: Checkout) -> None:
    write_program(checkout.root / ".venv" / "thesis.tex", "")
    code, _, errors = checkout.run("true_")
    assert code == 1 and "found other files" in errors
    assert (checkout.root / ".venv" / "thesis.tex").exists()


def test_two_first_starts_install_once(checkout: Checkout) -> None:
    if not (checkout.programs / "flock").exists():
        pytest.skip("found no flock, required to hold the second start back")
    with checkout.start("true_", FAKE_SECONDS="0.5") as one, checkout.start("true_") as two:
        assert one.wait(20) == two.wait(20) == 0
    assert checkout.log.read_text().count("pip install") == 1


@pytest.mark.parametrize(
    ("files", "extra"),
    [
        ({"dev/nvidia1": "", "sys/module/nvidia/version": "580.65.06\n"}, "cuda13"),
        ({"dev/nvidia0": "", "sys/module/nvidia/version": "570.133.20\n"}, "cuda12"),
        ({"dev/nvidia0": ""}, "cuda12"),
        ({"dev/accel0": ""}, "tpu"),
        ({"dev/vfio/0": "", "sys/class/dmi/id/product_name": "Google Compute Engine\n"}, "tpu"),
        ({"dev/vfio/0": "", "sys/class/dmi/id/product_name": "a workstation\n"}, None),
        ({"dev/nvidiactl": ""}, None),
    ],
)
def test_a_device_brings_the_extra_of_jax(
    checkout: Checkout, files: dict[str, str], extra: str | None
) -> None:
    for name, text in files.items():
        write_program(checkout.programs / "sysroot" / name, text)
    code, _, errors = checkout.run("true_")
    assert code == 0
    assert re.findall(r"found a device for jax's extra (\w+)", errors) == [extra] * bool(extra)
    assert (f".[dev,{extra}]" if extra else ".[dev]") in checkout.log.read_text()
    assert checkout.installed() == []


def test_a_named_device_extra_overrules_the_device(checkout: Checkout) -> None:
    write_program(checkout.programs / "sysroot/dev/nvidia0", "")
    _, install = checkout.installed(NANOGPT_EXTRAS="cuda13")
    assert ".[dev,cuda13]" in install


@pytest.mark.parametrize(
    ("summary", "code"),
    [
        ("12 passed", 0),
        ("SKIPPED [2] tests/test_a.py:5: needs_gpu: found only cpu", 0),
        ("SKIPPED [2] tests/test_a.py:5: needs_gpu\nSKIPPED [1] tests/test_b.py:9: needs node", 1),
    ],
)
def test_ci_fails_on_a_skip_that_wants_no_accelerator(
    checkout: Checkout, summary: str, code: int
) -> None:
    result = run_ci(checkout, pytest=f"echo '{summary}'")
    assert result.returncode == code, result.stderr
    assert f"accelerator: {2 if 'needs_gpu' in summary else 0};" in result.stdout
    assert ("== tests of the inspector: passed" in result.stdout) == (code == 0)


@pytest.mark.parametrize("program", ["ruff", "pyright"])
def test_ci_fails_on_what_is_checked_beside_before_the_tests_begin(
    checkout: Checkout, program: str
) -> None:
    result = run_ci(checkout, **{program: "sleep 0.5; exit 3"})
    assert result.returncode == 3, result.stderr
    assert "== inspector: passed" in result.stdout and "== tests" not in result.stdout


def run_ci(checkout: Checkout, **programs: str) -> subprocess.CompletedProcess[str]:
    """.ci/run with programs that do nothing but what is given."""
    given = checkout.programs / "given"
    for name in ("pytest", "python", "ruff", "pyright", "true"):
        write_program(given / name, f"#!/usr/bin/env bash\n{programs.get(name, '')}\n")
    for name in ("install_chromium", "build_ui", "test_ui"):
        write_program(checkout.root / "scripts" / name, "#!/usr/bin/env bash\n")
    return subprocess.run(
        ["bash", checkout.root / ".ci" / "run"],
        env=checkout.environment({"NANOGPT_PYTHON": str(given / "python")}),
        capture_output=True,
        text=True,
        timeout=20,
    )
