"""A small host project, with an app that has the label ``audit`` as ours has the name.

Its tests are of Django's kinds and run by Django's runner, not by pytest.
"""

from __future__ import annotations
