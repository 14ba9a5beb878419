# SPDX-License-Identifier: BSD-2-Clause
"""Initramfs archives: cpio, format "newc" (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).

Written here rather than by cpio, because device nodes then need no root, and the same content makes the same archive
byte by byte: owners are 0, times are 0, inode numbers count from 1."""

import dataclasses
import pathlib
import stat

ALIGN = 4
TRAILER = "TRAILER!!!"


@dataclasses.dataclass
class Device:
    """A character device's node."""

    major: int
    minor: int


@dataclasses.dataclass
class Link:
    """A symbolic link."""

    target: str


def _padded(data):
    return data + b"\0" * (-len(data) % ALIGN)


def _entry(number, name, mode, data=b"", device=Device(0, 0), links=1):
    path = name.encode() + b"\0"
    fields = [number, mode, 0, 0, links, 0, len(data), 0, 0, device.major, device.minor, len(path), 0]
    return _padded(b"070701" + b"".join(b"%08x" % f for f in fields) + path) + _padded(data)


def _content(source):
    """Mode and data of one source: a path, text, a device or a link."""
    if isinstance(source, Device):
        return stat.S_IFCHR | 0o600, b"", source
    if isinstance(source, Link):
        return stat.S_IFLNK | 0o777, source.target.encode(), Device(0, 0)
    data = source.encode() if isinstance(source, str) else pathlib.Path(source).read_bytes()
    executable = data.startswith((b"#!", b"\x7fELF"))
    return stat.S_IFREG | (0o755 if executable else 0o644), data, Device(0, 0)


def archive(files, folders=()):
    """The bytes of an archive. `files`: {path in it: source}, a source being a pathlib.Path, the text itself as a str, a
    Device or a Link; folders that they are in come by themselves, `folders` are more of them."""
    needed = {str(parent) for name in files for parent in pathlib.PurePosixPath(name).parents}
    needed |= {str(p) for f in folders for p in [pathlib.PurePosixPath(f), *pathlib.PurePosixPath(f).parents]}
    parts = []
    names = sorted(needed - {"."} | set(files), key=lambda n: n.split("/"))
    for number, name in enumerate(names, 1):
        if name in files:
            mode, data, device = _content(files[name])
            parts.append(_entry(number, name, mode, data, device))
        else:
            parts.append(_entry(number, name, stat.S_IFDIR | 0o755, links=2))
    parts.append(_entry(0, TRAILER, 0))
    return b"".join(parts)
