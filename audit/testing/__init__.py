"""For tests, demos and development: a PostgreSQL from a wheel, and the engine in one process."""
