from __future__ import annotations

from django.db import models


class Entry(models.Model):
    """What somebody did in the shop."""

    text = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.text


class Line(models.Model):
    """A part of an entry: a foreign key, so that a flush has something to cascade to."""

    entry = models.ForeignKey(Entry, on_delete=models.CASCADE)
    number = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.entry}: {self.number}"
