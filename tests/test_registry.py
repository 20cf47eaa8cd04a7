"""Signatures become fields, texts become values, and a wrong name meets the nearest right one."""

import dataclasses
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt_jax.registry import (
    Field,
    below_one,
    field_of,
    fields_of,
    fraction,
    non_negative,
    positive,
    seed_range,
    unknown,
)

Rate = Annotated[float, "a rate", positive]


@dataclasses.dataclass(frozen=True)
class Example:
    """One field of each kind."""

    count: Annotated[int, "how many", non_negative] = 3
    rate: Rate = 0.5
    own: Annotated[Rate, "a rate of its own"] = 0.5
    on: Annotated[bool, "a switch"] = False
    text: Annotated[str, "any text"] = ""
    choice: Annotated[Literal["left", "right"], "a side"] = "left"
    from_: Annotated[str, "a word of Python"] = ""


FIELDS = fields_of(Example)


def test_a_signature_is_a_schema():
    def build(groups: int, rate: Rate = 1.0, *, mask: int | None = None, loose=4, b: float = 2.0):
        """Only annotated keywords with a default, of one plain type, are fields."""

    assert list(fields_of(build)) == ["rate", "b"]
    assert fields_of(build)["rate"] == Field("rate", float, 1.0, "a rate", (positive,))


def test_the_nearest_sentence_names_a_field_and_all_rules_hold():
    assert (FIELDS["rate"].meaning, FIELDS["own"].meaning) == ("a rate", "a rate of its own")
    assert FIELDS["own"].rules == FIELDS["rate"].rules == (positive,)


def test_a_field_may_have_a_name_that_python_keeps_for_itself():
    assert "from" in FIELDS and "from_" not in FIELDS


@pytest.mark.parametrize(
    "name, text, value",
    [
        ("count", "7", 7),
        ("count", "1e3", 1000),
        ("count", "1_000", 1000),
        ("count", "-2", -2),
        ("rate", "1", 1.0),
        ("rate", "5e-3", 0.005),
        ("on", "true", True),
        ("on", "False", False),
        ("on", "1", True),
        ("on", "no", False),
        ("text", "1e3", "1e3"),
        ("choice", "left", "left"),
    ],
)
def test_a_text_becomes_a_value_of_the_fields_type(name, text, value):
    found = FIELDS[name].parse(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "name, text, kind",
    [
        ("count", "1.5", "int"),
        ("count", "many", "int"),
        ("count", "inf", "int"),
        ("count", "nan", "int"),
        ("count", "", "int"),
        ("rate", "fast", "float"),
        ("on", "maybe", "bool"),
        ("on", "2", "bool"),
    ],
)
def test_a_text_of_another_type_is_refused(name, text, kind):
    with pytest.raises(ValueError, match=f"^a value of type {kind} is required$"):
        FIELDS[name].parse(text)


def test_a_path_becomes_an_absolute_one(monkeypatch, tmp_path):
    field = field_of("workdir", Annotated[Path, "where"], ".")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/of/somebody")
    assert field.parse("a/../b") == tmp_path.resolve() / "b"
    assert field.parse("~/runs") == Path("/home/of/somebody/runs")


@pytest.mark.parametrize(
    "name, value, problem",
    [
        ("count", -1, "a.b=-1 must be at least 0"),
        ("count", True, "a.b=True: a value of type int is required"),
        ("count", 1.0, "a.b=1.0: a value of type int is required"),
        ("rate", 0.0, "a.b=0.0 must be greater than 0"),
        ("rate", 2, None),
        ("rate", True, "a.b=True: a value of type float is required"),
        ("rate", float("inf"), "a.b=inf: a finite number is required"),
        ("rate", float("nan"), "a.b=nan: a finite number is required"),
        ("on", 1, "a.b=1: a value of type bool is required"),
        ("text", None, "a.b=None: a value of type str is required"),
        ("choice", "rihgt", "a.b='rihgt' is not known; did you mean 'right'?"),
        ("choice", "up", "a.b='up' is not known; known: left, right"),
        ("choice", ["left"], "a.b=['left'] is not known; did you mean 'left'?"),
    ],
)
def test_a_value_has_its_type_and_keeps_its_rules(name, value, problem):
    assert FIELDS[name].problem("a.b", value) == problem


def test_one_line_has_all_rules_that_a_value_breaks():
    field = field_of("x", Annotated[int, positive, seed_range], 1)
    line = "x=-1 must be greater than 0 and be at least 0 and below 2**32"
    assert field.problem("x", -1) == line


@pytest.mark.parametrize(
    "rule, inside, outside",
    [
        (positive, (1e-9, 5), (0, -1)),
        (non_negative, (0, 5), (-1e-9,)),
        (below_one, (0, 0.999), (1, -0.1)),
        (fraction, (0, 1), (1.001, -0.1)),
        (seed_range, (0, 2**32 - 1), (2**32, -1)),
    ],
)
def test_rules_hold_inside_and_not_outside(rule, inside, outside):
    assert all(map(rule.holds, inside)) and not any(map(rule.holds, outside))


@given(st.integers() | st.floats(allow_nan=False) | st.booleans())
def test_what_is_written_is_read_back(value):
    assert field_of("x", type(value), value).parse(str(value)) == value


@given(st.text())
def test_a_number_is_read_or_refused_whatever_the_text(text):
    for kind in (int, float, bool):
        try:
            value = field_of("x", kind, None).parse(text)
        except ValueError as error:
            assert str(error) == f"a value of type {kind.__name__} is required"
        else:
            assert type(value) is kind


def test_an_unknown_name_meets_the_nearest_or_all():
    known = ["lion", "adamw"]
    assert unknown("a", "adanw", known) == "a='adanw' is not known; did you mean 'adamw'?"
    assert unknown("a", "x", known) == "a='x' is not known; known: adamw, lion"


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """A registry over a package of one module, not imported yet."""
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes/__init__.py").write_text(
        "from nanogpt_jax.registry import Registry\nshapes = Registry('shape', 'shapes')\n"
    )
    (tmp_path / "shapes/round.py").write_text(
        "from shapes import shapes\n"
        "@shapes\ndef circle(radius: float = 1.0): return 'circle', radius\n"
        "@shapes.named('disc')\ndef f(): return 'disc'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield _imported("shapes").shapes
    for name in ("shapes", "shapes.round"):
        sys.modules.pop(name, None)


def _imported(name: str) -> ModuleType:
    __import__(name)
    return sys.modules[name]


def test_a_registry_imports_its_package_at_the_first_look(shapes):
    assert "shapes.round" not in sys.modules
    assert list(shapes) == ["circle", "disc"]
    assert "shapes.round" in sys.modules
    assert shapes["circle"](2.0) == ("circle", 2.0) and shapes["disc"]() == "disc"
    assert list(shapes.fields("circle")) == ["radius"]


def test_a_registry_names_the_nearest_of_its_things(shapes):
    assert "circle" in shapes and "cicrle" not in shapes
    with pytest.raises(KeyError, match=r"shape.name='cicrle' is not known; did you mean 'circle'"):
        shapes["cicrle"]
