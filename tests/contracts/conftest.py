"""The model that a contract is held against."""

from __future__ import annotations

import pytest

from tests.contracts.cases import Case, make_case


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    name, switches = request.param
    return make_case(name, tuple(switches.items()))
