#!/usr/bin/env python
"""Django's command line for the demo: ``python demo/manage.py demo`` shows everything."""

from __future__ import annotations

import os
import sys

NEEDED = ("audit", "bamboo_engine", "celery", "django", "pipeline")


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        sys.exit(f'{error}. Install what the demo needs: pip install -e ".[demo]"')


def run() -> None:
    from django.core.management import execute_from_command_line

    from audit.exceptions import PostgresNotStarted

    try:
        execute_from_command_line(sys.argv)
    except PostgresNotStarted as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
