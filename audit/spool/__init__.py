"""The spool: a host's local, durable folder of segments that records are appended to."""
