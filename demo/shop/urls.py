from __future__ import annotations

from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

records = RedirectView.as_view(pattern_name="admin:bamboo_audit_pipelineeventrecord_changelist")

urlpatterns = [
    path("", records),
    path("admin/", admin.site.urls),
]
