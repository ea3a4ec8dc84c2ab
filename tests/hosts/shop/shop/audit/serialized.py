"""Tests that want the data of migrations back; run apart from others.

Django's own content types collide when such tests follow one that flushes, whatever is installed.
"""
# ruff: noqa: PT009 - written for Django's runner, as the hosts' are

from __future__ import annotations

from django.test import TransactionTestCase

from shop.audit.models import Entry


class SerializedTests(TransactionTestCase):
    """Django puts back what the migrations had made."""

    serialized_rollback = True

    def test_a_data_of_migrations_is_there(self):
        self.assertEqual(Entry.objects.get().text, "made by a migration")
        Entry.objects.all().delete()

    def test_b_data_of_migrations_is_there_again(self):
        self.assertEqual(Entry.objects.get().text, "made by a migration")
