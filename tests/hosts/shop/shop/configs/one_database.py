"""Engine and log in the default database, which is PostgreSQL: its tests want to see records."""

from __future__ import annotations

import os

from audit.testing.postgres import database
from shop.configs.common import *  # noqa: F403

DATABASES = {
    "default": database(os.environ["DATABASE_URL"], TEST={"NAME": os.environ["SHOP_TEST_DATABASE"]})
}
BAMBOO_AUDIT = {"DELIVERY": "inline"}
