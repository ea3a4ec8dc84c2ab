from __future__ import annotations

from pipeline.component_framework.component import Component
from pipeline.core.flow.activity import Service

from shop.audit.models import Entry


class WriteEntry(Service):
    """Writes to the host's own table, as a plugin does."""

    def execute(self, data, parent_data):
        Entry.objects.create(text=data.get_one_of_inputs("text"))
        return True

    def outputs_format(self):
        return []


class WriteEntryComponent(Component):
    name = "Write an entry"
    code = "shop_write_entry"
    bound_service = WriteEntry
