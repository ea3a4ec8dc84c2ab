from __future__ import annotations

from django.contrib import admin

from shop.audit.models import Entry

admin.site.register(Entry)
