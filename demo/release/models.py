from __future__ import annotations

from django.db import models


class AttemptTime(models.Model):
    """How long one execution of a plugin took, and whether it failed."""

    root_pipeline_id = models.CharField(max_length=33, db_index=True)
    component = models.CharField(max_length=255)
    day = models.DateField()
    seconds = models.FloatField()
    failed = models.BooleanField()

    objects: models.Manager[AttemptTime] = models.Manager()

    class Meta:
        indexes = (models.Index(fields=["component", "day"], name="attempt_component_day"),)

    def __str__(self) -> str:
        return f"{self.component} on {self.day}: {self.seconds:.3f} s"
