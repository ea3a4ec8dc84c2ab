"""A Django app with the engine's odd plugins, and a celery app without a broker."""
