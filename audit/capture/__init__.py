"""From an engine's signal to a record, on the engine's thread: no ORM in here."""
