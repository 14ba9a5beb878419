# SPDX-License-Identifier: BSD-2-Clause
"""Linux kernels of Debian's, fetched and unpacked but not installed, and what is made of their files.

A kernel boots in three ways: its bzImage, the uncompressed vmlinux inside it (by PVH, for machines on which
decompressing takes long), or as one UEFI application with command line and initramfs, by systemd's boot stub, so that
firmware starts it as it starts Twofold's loader.
"""

import gzip
import lzma
import pathlib
import re
import struct
import subprocess
import threading

from twofold import debian, initramfs as cpio, machine
from twofold.debian import output

FOLDER = debian.FOLDER
STUB = pathlib.Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
META_PACKAGES = ["linux-image-cloud-amd64",  # the smaller of Debian's two
                 "linux-image-amd64"]

# What a kernel must have, built in or as a module, to run on Twofold's virtual machine.
NEEDED = ["VIRTIO_MMIO", "VIRTIO_BLK", "VIRTIO_CONSOLE", "HW_RANDOM_VIRTIO", "SERIAL_8250_CONSOLE", "EXT4_FS", "OVERLAY_FS",
          "DEVTMPFS", "PVH"]

# Where the stub's sections go, out of each other's way; it finds them by name.
SECTIONS = {".osrel": 0x20000, ".cmdline": 0x30000, ".linux": 0x2000000, ".initrd": 0x6000000}

# The setup header, Documentation/x86/boot.rst of the kernel.
SECTOR = 512
SETUP_SECTS = 0x1F1
MAGIC = 0x202
PAYLOAD_OFFSET = 0x248
PAYLOAD_LENGTH = 0x24C
SETUP_SECTS_DEFAULT = 4
SIZE_BYTES = 4  # the unpacked size that the kernel's build appends to what is compressed, except by gzip


_decompressing = threading.Lock()  # tests boot side by side


class Kernel:
    """An unpacked kernel package."""

    def __init__(self, root):
        self.release = next((root / "lib/modules").iterdir()).name
        self.file = root / f"boot/vmlinuz-{self.release}"
        self._root = root
        config = (root / f"boot/config-{self.release}").read_text(encoding="utf-8")
        self.config = dict(re.findall(r"^CONFIG_(\w+)=(.*)$", config, re.M))  # values: "y", "m" and others
        self._modules = {p.stem.replace("-", "_"): p for p in (root / "lib/modules").rglob("*.ko")}

    def lacks(self):
        """Those of NEEDED that it does not have."""
        return [option for option in NEEDED if self.config.get(option) not in ("y", "m")]

    def has_module(self, name):
        return name.replace("-", "_") in self._modules

    def module(self, name):
        """The path of a module's file, by the module's name ('kvm-intel')."""
        if not self.has_module(name):
            raise machine.MachineError(f"the kernel {self.release} has no module {name}")
        return self._modules[name.replace("-", "_")]

    def modules_in_order(self, names):
        """The files of modules and of those that they need, each after those. As depmod would put them, whose modules.dep
        is made only when a kernel is installed; a name that is no module is taken for built in."""
        ordered = []

        def add(name):
            if not self.has_module(name) or self.module(name) in ordered:
                return
            needed = re.search(rb"\0depends=([^\0]*)\0", self.module(name).read_bytes())
            for other in needed[1].decode().split(",") if needed and needed[1] else []:
                self.module(other)
                add(other)
            ordered.append(self.module(name))

        for name in names:
            add(name)
        return ordered

    def vmlinux(self):
        """The path of the uncompressed kernel, an ELF file that can be entered by PVH."""
        path = self._root / f"boot/vmlinux-{self.release}"
        with _decompressing:
            if not path.exists():
                unfinished = path.with_name("vmlinux.new")
                unfinished.write_bytes(decompress_bzimage(self.file.read_bytes()))
                unfinished.rename(path)
        return path


def _filter(command, data):
    try:
        return subprocess.run(command, check=True, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE).stdout
    except FileNotFoundError as error:
        raise machine.MachineError(f"{command[0]} is not installed: run scripts/setup linux") from error
    except subprocess.CalledProcessError as error:
        raise machine.MachineError(f"{command[0]}: {error.stderr.decode().strip()}") from error


# By the first bytes of the payload; gzip's own trailer is the size already.
DECOMPRESS = {
    b"\x1f\x8b": gzip.decompress,
    b"\xfd7zXZ\0": lambda data: lzma.decompress(data[:-SIZE_BYTES], lzma.FORMAT_XZ),
    b"\x02\x21\x4c\x18": lambda data: _filter(["lz4", "-dc"], data[:-SIZE_BYTES]),
    b"\x28\xb5\x2f\xfd": lambda data: _filter(["zstd", "-dcq"], data[:-SIZE_BYTES]),
}


def decompress_bzimage(data):
    """The ELF file in a bzImage (bytes)."""
    if data[MAGIC:MAGIC + 4] != b"HdrS":
        raise machine.MachineError("the kernel is no bzImage")
    setup = (data[SETUP_SECTS] or SETUP_SECTS_DEFAULT) + 1
    offset, length = struct.unpack_from("<II", data, PAYLOAD_OFFSET)
    assert PAYLOAD_LENGTH == PAYLOAD_OFFSET + 4
    begin = setup * SECTOR + offset
    payload = data[begin:begin + length]
    for magic, decompress in DECOMPRESS.items():
        if payload.startswith(magic):
            unpacked = decompress(payload)
            break
    else:
        raise machine.MachineError(f"the kernel is compressed in an unknown way, it begins with {payload[:6].hex()}")
    if not unpacked.startswith(b"\x7fELF") or len(unpacked) != struct.unpack("<I", payload[-SIZE_BYTES:])[0]:
        raise machine.MachineError("what is in the bzImage is no whole ELF file")
    return unpacked


def kernel():
    """The kernel to use: the one that is unpacked already, else the newest of Debian's that has what is needed."""
    root = FOLDER / "kernel"
    if not (root / "lib/modules").is_dir():
        lacking = {}
        for meta in META_PACKAGES:
            candidate = FOLDER / f"kernel-{meta}"
            if not candidate.is_dir():
                debian.unpack([debian.depends(meta)], candidate)
            lacking[meta] = Kernel(candidate).lacks()
            if not lacking[meta]:
                candidate.rename(root)
                break
        else:
            raise machine.MachineError("no kernel of Debian's has all that is needed: " + "; ".join(
                f"{meta} lacks {', '.join(options)}" for meta, options in lacking.items()))
    return Kernel(root)


def initramfs(folder, files):
    """A cpio archive in `folder`. `files`: {path in it: source, a path or text}."""
    archive = folder / "initramfs.cpio"
    archive.write_bytes(cpio.archive(files))
    return archive


def efi_application(folder, kernel_file, command_line, archive):
    """Kernel, command line and initramfs as one UEFI application."""
    if not STUB.exists():
        raise machine.MachineError(f"{STUB} is missing: run scripts/setup kvm")
    (folder / "cmdline").write_text(command_line)
    (folder / "osrel").write_text('ID=twofold-linux\nVERSION_ID=1\nPRETTY_NAME="Linux, measured"\n')
    content = {".osrel": folder / "osrel", ".cmdline": folder / "cmdline", ".linux": kernel_file, ".initrd": archive}
    base = int(re.search(r"^ImageBase\s+([0-9a-f]+)", output("objdump", "-p", str(STUB)), re.M)[1], 16)
    application = folder / "linux.efi"
    options = []
    for section, file in content.items():
        at = base + SECTIONS[section]
        options += ["--add-section", f"{section}={file}", "--change-section-vma", f"{section}={at:#x}"]
    output("objcopy", *options, str(STUB), str(application))
    return application
