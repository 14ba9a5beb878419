# SPDX-License-Identifier: BSD-2-Clause
"""The hypervisor's console, taken apart again: hv/console.h and docs/output.md have the form of its lines."""

import json
import re

RECORD = re.compile(rb"^@([a-z]+) (\{.*\})$")
MONITOR = "twofold"  # the name that the monitor's prompt and echo come by; no VM can have it
GUEST_LINE = re.compile(rb"^([A-Za-z0-9._-]{1,31})([|+]) ")


class Line:
    """One line: `kind` is 'record', 'guest' or 'text'."""

    def __init__(self, kind, raw, name=None, value=None):
        self.kind = kind
        self.raw = raw  # bytes
        self.name = name  # of the record's kind, or of the VM
        self.value = value  # the record's object, or the guest's bytes

    def text(self):
        return self.raw.decode("utf-8", "replace")


def parse(raw):
    """A console line (bytes, no line end) as a Line."""
    record = RECORD.match(raw)
    if record:
        try:
            return Line("record", raw, record[1].decode(), json.loads(record[2]))
        except json.JSONDecodeError:
            return Line("text", raw)
    guest = GUEST_LINE.match(raw)
    if guest:
        content = raw[guest.end():]
        return Line("guest", raw, guest[1].decode(), content + (b"\n" if guest[2] == b"|" else b""))
    return Line("text", raw)
