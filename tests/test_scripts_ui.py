"""scripts/ui, build_ui, test_ui and install_chromium with fake programs: no npm, no network."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# All that the scripts may call besides the fakes; a PATH of these alone hides the machine's node.
PROGRAMS = "bash cat cp dirname flock grep mktemp mv rm touch".split()

NODE = '#!/usr/bin/env bash\necho "$FAKE_NODE"\n'
# Stands for npm: notes its arguments, installs a stamp, builds one page, reports on tests.
NPM = """#!/usr/bin/env bash
echo "npm $*" >>"$FAKE_LOG"
case "$*" in
  ci*) mkdir -p node_modules/.bin && echo >node_modules/.package-lock.json ;;
  "run build")
    [[ -z ${FAKE_PAGE:-} ]] || { mkdir -p dist/assets && echo "$FAKE_PAGE" >dist/index.html; }
    exit "${FAKE_BUILD_EXIT:-0}" ;;
  *--outputFile*)
    skipped="\\"numPendingTests\\":${FAKE_SKIPPED:-0}"
    for word in "$@"; do
      [[ $word != --outputFile.json=* ]] || echo "{$skipped,\\"numTodoTests\\":0,}" >"${word#*=}"
    done ;;
esac
"""
NOTES = '#!/usr/bin/env bash\necho "${0##*/} $*" >>"$FAKE_LOG"\n'


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class Checkout:
    """Copies of the scripts in a folder with a space in its name, and an empty ui/."""

    def __init__(self, folder: Path):
        self.root = folder / "a checkout"
        self.programs = folder / "programs"
        self.ui = self.root / "ui"
        self.static = self.root / "nanogpt_jax/serve/static"
        self.log = folder / "log"
        shutil.copytree(REPOSITORY / "scripts", self.root / "scripts")
        for made in (self.programs, self.ui / "src", self.ui / "e2e", self.static.parent):
            made.mkdir(parents=True)
        (self.ui / "package-lock.json").write_text("{}")
        write_program(self.programs / "node", NODE)
        write_program(self.programs / "npm", NPM)
        write_program(self.programs / "given/python", NOTES)
        for name in [*PROGRAMS, "mkdir", "true"]:
            found = shutil.which(name)
            if found:  # flock is not everywhere
                (self.programs / name).symlink_to(found)

    def run(self, script: str, *words: str, **variables: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a script."""
        fixed = {"PATH": str(self.programs), "FAKE_LOG": str(self.log), "FAKE_NODE": "v20.20.2"}
        given = {"FAKE_PAGE": "a page", "NANOGPT_PYTHON": str(self.programs / "given/python")}
        ended = subprocess.run(
            [self.root / "scripts" / script, *words],
            env={**fixed, **given, **variables},
            capture_output=True,
            text=True,
            timeout=20,
        )
        return ended.returncode, ended.stdout, ended.stderr

    def calls(self) -> list[str]:
        """What the fakes have noted since this was last asked."""
        noted = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return noted


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_packages_are_installed_once_and_again_when_the_lock_file_is_newer(
    checkout: Checkout,
) -> None:
    assert checkout.run("ui", "true")[0] == 0
    (install,) = checkout.calls()
    assert install.startswith("npm ci")
    assert checkout.run("ui", "true")[0] == 0 and checkout.calls() == []
    later = (checkout.ui / "node_modules/.package-lock.json").stat().st_mtime + 1
    os.utime(checkout.ui / "package-lock.json", (later, later))
    assert checkout.run("ui", "true")[0] == 0
    assert checkout.calls() == [install]


def test_a_command_runs_in_ui_with_the_packages_programs_its_arguments_and_its_exit_code(
    checkout: Checkout,
) -> None:
    code, output, _ = checkout.run("ui", "bash", "-c", 'echo "$PWD|$PATH|$1"; exit 7', "_", "a b")
    assert code == 7
    programs = f"{checkout.ui}/node_modules/.bin:{checkout.programs}"
    assert output == f"{checkout.ui}|{programs}|a b\n"


@pytest.mark.parametrize(
    ("missing", "version", "found"),
    [
        ("node", "v20.20.2", "found no Node.js, required 20 or newer"),
        ("npm", "v20.20.2", "found Node.js v20.20.2 without npm, required 20 or newer"),
        (None, "v18.19.0", "found Node.js v18.19.0, required 20 or newer"),
    ],
)
@pytest.mark.parametrize("script", ["ui", "build_ui", "test_ui"])
def test_a_missing_or_old_node_is_one_line_with_a_remedy_and_nothing_is_installed(
    checkout: Checkout, script: str, missing: str | None, version: str, found: str
) -> None:
    if missing:
        (checkout.programs / missing).unlink()
    words = ["true"] if script == "ui" else []
    code, _, errors = checkout.run(script, *words, FAKE_NODE=version)
    assert code == 1 and len(errors.splitlines()) == 1
    assert f"scripts/ui: {found}" in errors and "put it on PATH" in errors
    assert not (checkout.ui / "node_modules").exists() and checkout.calls() == []


def test_a_start_without_a_command_says_how_to_name_one(checkout: Checkout) -> None:
    code, _, errors = checkout.run("ui")
    assert code == 1 and "found no command, required one: scripts/ui npm test" in errors


def test_a_build_takes_the_place_of_the_one_before_it_whole(checkout: Checkout) -> None:
    assert checkout.run("build_ui", FAKE_PAGE="old")[0] == 0
    (checkout.static / "assets/of-the-old-build.js").write_text("")
    code, output, errors = checkout.run("build_ui", FAKE_PAGE="new")
    assert code == 0, errors
    assert "built nanogpt_jax/serve/static" in output
    assert (checkout.static / "index.html").read_text() == "new\n"
    assert not list((checkout.static / "assets").iterdir())
    assert [path.name for path in checkout.static.parent.iterdir()] == ["static"]


@pytest.mark.parametrize(
    ("variables", "said"),
    [({"FAKE_BUILD_EXIT": "3"}, ""), ({"FAKE_PAGE": ""}, "found no ui/dist/index.html")],
)
def test_a_build_that_fails_or_makes_no_page_leaves_the_one_before_it(
    checkout: Checkout, variables: dict[str, str], said: str
) -> None:
    assert checkout.run("build_ui", FAKE_PAGE="old")[0] == 0
    code, _, errors = checkout.run("build_ui", **{"FAKE_PAGE": "new", **variables})
    assert code != 0 and said in errors
    assert (checkout.static / "index.html").read_text() == "old\n"


def test_a_build_takes_no_arguments(checkout: Checkout) -> None:
    code, _, errors = checkout.run("build_ui", "--watch")
    assert code == 1 and "found the argument --watch, required none" in errors
    assert checkout.calls() == []


def npm_scripts(calls: list[str]) -> list[str]:
    """The npm scripts that were called, each with the files that it was given."""
    words = [call.split() for call in calls if call.startswith("npm run ")]
    return [" ".join(w for w in each[2:] if not w.startswith("--")) for each in words]


def test_without_files_everything_is_tested_and_the_browser_gets_a_new_build(
    checkout: Checkout,
) -> None:
    code, _, errors = checkout.run("test_ui")
    assert code == 0, errors
    assert npm_scripts(checkout.calls()) == ["lint", "types", "test", "build", "e2e"]


@pytest.mark.parametrize(
    ("files", "scripts"),
    [
        (["src/bytes.test.ts"], ["test src/bytes.test.ts"]),
        (["ui/e2e/prompt.test.ts"], ["build", "e2e e2e/prompt.test.ts"]),
        (
            ["e2e/prompt.test.ts", "src/bytes.test.ts"],
            ["test src/bytes.test.ts", "build", "e2e e2e/prompt.test.ts"],
        ),
    ],
)
def test_with_files_only_their_tests_run(
    checkout: Checkout, files: list[str], scripts: list[str]
) -> None:
    for name in ("src/bytes.test.ts", "e2e/prompt.test.ts"):
        (checkout.ui / name).write_text("")
    code, _, errors = checkout.run("test_ui", *files)
    assert code == 0, errors
    assert npm_scripts(checkout.calls()) == scripts


def test_a_file_that_is_not_there_is_no_test_that_passed(checkout: Checkout) -> None:
    code, _, errors = checkout.run("test_ui", "src/none.test.ts")
    assert code == 1 and "found no ui/src/none.test.ts, required a test file" in errors
    assert checkout.calls() == []


def test_a_skipped_test_fails_the_tests(checkout: Checkout) -> None:
    code, _, errors = checkout.run("test_ui", FAKE_SKIPPED="1")
    assert code == 1 and "found skipped tests in npm run test, required none" in errors
    assert npm_scripts(checkout.calls()) == ["lint", "types", "test"]


def test_chromium_is_installed_by_root_where_it_is_missing(checkout: Checkout) -> None:
    write_program(checkout.programs / "apt-get", NOTES)
    write_program(checkout.programs / "id", "#!/usr/bin/env bash\necho 0\n")
    assert checkout.run("install_chromium")[0] == 0
    update, install = checkout.calls()
    assert update == "apt-get update"
    assert install.startswith("apt-get install ") and install.endswith(" chromium")
    write_program(checkout.programs / "chromium", NOTES)
    assert checkout.run("install_chromium")[0] == 0 and checkout.calls() == []


@pytest.mark.parametrize(("user", "found"), [(1000, "install it as root"), (0, "nor apt-get")])
def test_chromium_that_cannot_be_installed_is_one_line(
    checkout: Checkout, user: int, found: str
) -> None:
    write_program(checkout.programs / "id", f"#!/usr/bin/env bash\necho {user}\n")
    code, _, errors = checkout.run("install_chromium")
    assert code == 1 and len(errors.splitlines()) == 1 and found in errors
