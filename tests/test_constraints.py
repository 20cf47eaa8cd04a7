"""The pins of constraints.txt against the ranges of pyproject.toml, from the texts alone."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_every_direct_dependency_is_pinned_exactly_within_its_range(python: str) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    direct = [project["dependencies"], *project["optional-dependencies"].values()]
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    rows = [
        (canonicalize_name(row.name), row.specifier)
        for row in requirements
        if row.marker is None or row.marker.evaluate({"python_version": python})
    ]
    pins = dict(rows)
    assert len(pins) == len(rows) > 50
    assert all(re.fullmatch(r"==[0-9.]+", str(pin)) for pin in pins.values())
    for wanted in (Requirement(text) for group in direct for text in group):
        (pin,) = pins[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(pin.version), f"{wanted} excludes the pin {pin}"


def test_the_pins_name_no_address_and_no_option() -> None:
    text = (REPOSITORY / "constraints.txt").read_text()
    assert "jax==" in text
    assert not re.search(r"://|@|^\s*-", text, re.MULTILINE)
