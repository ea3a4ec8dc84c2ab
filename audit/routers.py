"""Keep our tables in the log's database, and other apps' migrations out of it."""

from __future__ import annotations

from typing import Any

from django.db.models import Model

from audit import conf

APP_LABEL = "bamboo_audit"


class AuditRouter:
    """Put ``"audit.routers.AuditRouter"`` **first** in ``DATABASE_ROUTERS``.

    Needed only where ``BAMBOO_AUDIT["DATABASE"]`` is not ``"default"``.
    """

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return self._home(model._meta.app_label)

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        return self._home(model._meta.app_label)

    def allow_relation(self, first: Model, second: Model, **hints: Any) -> bool | None:
        # Our tables refer to the engine's by id only, never by a foreign key.
        ours = {first._meta.app_label, second._meta.app_label}
        return len(ours) == 1 if APP_LABEL in ours else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        home = conf.get("DATABASE")
        if app_label == APP_LABEL:
            return bool(db == home)
        # On the default database other apps are at home, whether the log is there or not.
        return False if db == home and db != "default" else None

    @staticmethod
    def _home(app_label: str) -> str | None:
        return str(conf.get("DATABASE")) if app_label == APP_LABEL else None
