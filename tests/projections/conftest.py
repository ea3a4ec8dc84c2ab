from __future__ import annotations

import pytest
from lab.by_hand import Records


@pytest.fixture
def records() -> Records:
    return Records()
