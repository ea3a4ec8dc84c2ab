from __future__ import annotations

import pytest
from lab import redelivered

from audit.models import ProjectionCheckpoint


@pytest.fixture(autouse=True)
def nothing_given():
    """Nothing was sent again, and no redelivery is known."""
    redelivered.given.clear()
    redelivered.trouble.__init__()
    ProjectionCheckpoint.objects.filter(name__startswith="redeliver:").delete()
    yield
    redelivered.given.clear()
