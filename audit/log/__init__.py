"""The log: the append-only table, and the only place that knows the database driver."""
