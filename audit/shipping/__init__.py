"""Shipping: records from the spool to the log, exactly once, by one shipper per spool folder."""
