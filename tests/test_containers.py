"""The container files, read: what they copy exists, what they run is scripts that tests run too.

No image is built here.
"""

import fnmatch
import itertools
import json
import os
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
WORKDIR = "/app"
# What a Dockerfile may run besides scripts/: an owner for folders, and a link.
PLAIN = ("install", "ln")
NOT_CARRIED = [
    ".venv",
    ".venv312",
    ".git",
    ".env",
    "checkpoints/tiny",
    "ui/node_modules",
    "ui/dist",
]


class Instruction(NamedTuple):
    stage: str
    name: str
    words: list[str]


def read_dockerfile(text: str) -> list[Instruction]:
    """The instructions in order, each with the name of its stage."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found, stage = [], ""
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, rest = line.partition(" ")
        words = json.loads(rest) if rest.startswith("[") else shlex.split(rest)
        if name == "FROM":
            stage = words[2]
        found.append(Instruction(stage, name, words))
    return found


INSTRUCTIONS = read_dockerfile((REPOSITORY / "Dockerfile").read_text())
STAGES = [each.stage for each in INSTRUCTIONS if each.name == "FROM"]
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DEVCONTAINER: dict[str, Any] = json.loads(
    (REPOSITORY / ".devcontainer/devcontainer.json").read_text()
)


def named(name: str) -> list[Instruction]:
    return [each for each in INSTRUCTIONS if each.name == name]


def last_of(stage: str, name: str) -> list[str]:
    return [each.words for each in named(name) if each.stage == stage][-1]


def is_carried(path: str) -> bool:
    """Whether .dockerignore lets a path of the repository into a build."""
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    loose = [each.removeprefix("**/") for each in patterns if each.startswith("**/")]
    parts = path.split("/")
    above = ["/".join(parts[: count + 1]) for count in range(len(parts))]  # and the path itself
    pairs = [*itertools.product(above, patterns), *itertools.product(parts, loose)]
    return not any(fnmatch.fnmatchcase(place, pattern) for place, pattern in pairs)


def is_script(word: str) -> bool:
    """Whether a word names a script of ours that can be run."""
    path = REPOSITORY / word.removeprefix(f"{WORKDIR}/")
    return path.parent == REPOSITORY / "scripts" and path.is_file() and os.access(path, os.X_OK)


def test_the_reader_sees_every_instruction() -> None:
    text = '# a note\nFROM one AS a\nRUN x \\\n  "y z"\nFROM two AS b\nCMD ["p", "q r"]\n'
    assert read_dockerfile(text) == [
        ("a", "FROM", ["one", "AS", "a"]),
        ("a", "RUN", ["x", "y z"]),
        ("b", "FROM", ["two", "AS", "b"]),
        ("b", "CMD", ["p", "q r"]),
    ]
    assert STAGES == ["node", "ui", "dev", "server"]


def test_every_copied_path_is_in_the_repository_or_made_by_an_earlier_stage() -> None:
    copies = named("COPY")
    assert len(copies) > 5
    for stage, _, words in copies:
        flags = [word for word in words if word.startswith("--")]
        *sources, _ = (word for word in words if not word.startswith("--"))
        if not flags:
            for source in sources:
                assert (REPOSITORY / source).exists(), source
                assert is_carried(source), source
            continue
        (origin,) = (flag.removeprefix("--from=") for flag in flags)
        assert STAGES.index(origin) < STAGES.index(stage)
        if origin == "ui":
            assert sources == [f"{WORKDIR}/nanogpt_jax/serve/static"]
        else:
            assert origin == "node" and all(each.startswith("/usr/local/") for each in sources)


def test_the_inspector_is_built_from_copies_of_all_that_its_build_reads() -> None:
    copied = [word for each in named("COPY") if each.stage == "ui" for word in each.words]
    assert {"scripts/ui", "scripts/build_ui", "ui"} <= {*copied}
    called = re.findall(r"\bscripts/\w+", (REPOSITORY / "scripts/build_ui").read_text())
    assert {*called} <= {*copied}


def test_an_image_runs_nothing_but_scripts_of_ours() -> None:
    commands = [each.words for each in named("RUN")]
    assert ["scripts/build_ui"] in commands and ["scripts/run", "true"] in commands
    for words in commands:
        assert words[0] in PLAIN or is_script(words[0]), words
    assert is_script(last_of("server", "ENTRYPOINT")[0])


def test_an_image_asks_whether_it_is_ready_and_is_not_run_by_root() -> None:
    (health,) = named("HEALTHCHECK")
    _, _, command = " ".join(health.words).partition("CMD ")
    script, port = re.findall(r"[\w/]+", command)
    assert is_script(script) and script.endswith("/ready")
    assert [port] == last_of("server", "EXPOSE")
    (user,) = last_of("server", "USER")
    uid = user.split(":")[0]
    assert re.fullmatch(r"[1-9]\d+", uid) and user == f"{uid}:{uid}"
    after = INSTRUCTIONS[INSTRUCTIONS.index(Instruction("server", "USER", [user])) :]
    assert not [each for each in after if each.name in ("RUN", "COPY")]
    owned = next(each.words for each in named("RUN") if each.words[0] == "install")
    assert owned[1:4] == ["--directory", *(f"--{name}={uid}" for name in ("owner", "group"))]
    folders = [f"{WORKDIR}/{name}" for name in owned[4:]]
    assert set(last_of("server", "VOLUME")) <= {*folders}
    assert f"NANOGPT_CACHE={folders[-1]}" in last_of("server", "ENV")


@pytest.mark.parametrize("path", NOT_CARRIED)
def test_a_build_is_not_given_what_is_made_here(path: str) -> None:
    assert not is_carried(path)


@pytest.mark.parametrize("path", ["ui/src/main.tsx", "scripts/run", "nanogpt_jax/serve/app.py"])
def test_a_build_is_given_the_sources(path: str) -> None:
    assert is_carried(path)


def test_every_service_is_built_from_a_stage_and_runs_a_script() -> None:
    assert {"first_run", "serve", "train", "tensorboard"} == {*SERVICES}
    for name, service in SERVICES.items():
        build = service["build"]
        assert (REPOSITORY / build["context"]).resolve() == REPOSITORY, name
        assert build["target"] in STAGES, name
        assert is_script(service.get("entrypoint", last_of("server", "ENTRYPOINT"))[0]), name
        for volume in service["volumes"]:
            volume_name, _, place = volume.partition(":")
            assert volume_name in COMPOSE["volumes"] and [place] == last_of("server", "VOLUME")
        silent = service.get("healthcheck") == {"test": ["NONE"]}
        assert silent == (name != "serve"), f"{name}: only a server can be asked if it is ready"


def test_the_service_that_listens_to_others_refuses_to_start_without_keys() -> None:
    command = last_of("server", "CMD")
    assert "--host=0.0.0.0" in command
    (keys,) = SERVICES["serve"]["environment"].values()
    variable, _, message = keys.removeprefix("${").removesuffix("}").partition(":?")
    assert [variable] == [*SERVICES["serve"]["environment"]] == ["NANOGPT_JAX_API_KEYS"]
    assert "found no API keys, required" in message and "NANOGPT_JAX_API_KEYS=KEY" in message
    ports = [port for each in SERVICES.values() for port in each.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


def test_on_a_gpu_the_services_are_the_same_with_an_extra_of_jax() -> None:
    (argument,) = (each.words[0] for each in named("ARG"))
    name, _, plain = argument.partition("=")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert set(plain.split(",")) <= project["optional-dependencies"].keys()
    cuda = yaml.safe_load((REPOSITORY / "compose.cuda.yaml").read_text())["services"]
    assert {*cuda} == {"first_run", "serve", "train"} < {*SERVICES}
    for service in cuda.values():
        assert service["build"] == {"args": {name: f"{plain},cuda13"}} and service["gpus"] == "all"
        assert service["image"] != SERVICES["serve"]["image"]
    assert "cuda13" in project["optional-dependencies"]


def test_the_config_that_training_begins_with_is_there() -> None:
    (word,) = SERVICES["train"]["command"]
    assert (REPOSITORY / word.removeprefix("--config=")).is_file()


def test_the_place_to_develop_is_a_stage_and_is_set_up_by_scripts() -> None:
    build = DEVCONTAINER["build"]
    folder = REPOSITORY / ".devcontainer"
    assert (folder / build["dockerfile"]).resolve() == REPOSITORY / "Dockerfile"
    assert (folder / build["context"]).resolve() == REPOSITORY
    assert build["target"] in STAGES
    commands = [shlex.split(each) for each in DEVCONTAINER["postCreateCommand"].split("&&")]
    assert len(commands) == 3 and all(is_script(words[0]) for words in commands)
    assert DEVCONTAINER["forwardPorts"] == [5173, 8787]
