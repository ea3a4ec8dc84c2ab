"""A host with Celery workers of its own, for the tests of what tasks inherit."""
