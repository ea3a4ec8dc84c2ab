"""Recorded events, sent again to one receiver: ``audit_redeliver``."""
