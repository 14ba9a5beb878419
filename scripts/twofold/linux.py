# SPDX-License-Identifier: BSD-2-Clause
"""A Linux to boot on the machines: Debian's kernel, fetched and unpacked but not installed, with an initramfs.

Kernel, command line and initramfs become one UEFI application by systemd's boot stub, so that the firmware starts
it as it starts Twofold's loader.
"""

import os
import pathlib
import re
import shutil
import subprocess

from twofold import image, machine

FOLDER = image.ROOT / "build/kvm"
STUB = pathlib.Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
META_PACKAGE = "linux-image-cloud-amd64"  # the smaller of Debian's two, with the same KVM

# Where the stub's sections go, out of each other's way; it finds them by name.
SECTIONS = {".osrel": 0x20000, ".cmdline": 0x30000, ".linux": 0x2000000, ".initrd": 0x6000000}


def _output(*command, cwd=None):
    try:
        return subprocess.run(command, check=True, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True).stdout
    except FileNotFoundError as error:
        raise machine.MachineError(f"{command[0]} is not installed: run scripts/setup kvm") from error
    except subprocess.CalledProcessError as error:
        raise machine.MachineError(f"{' '.join(command)}: {error.stderr.strip()}") from error


class Kernel:
    """An unpacked kernel package."""

    def __init__(self, root):
        self.release = next((root / "lib/modules").iterdir()).name
        self.file = root / f"boot/vmlinuz-{self.release}"
        self._modules = root / "lib/modules" / self.release / "kernel"

    def module(self, name):
        """The path of a module's file, by the module's name ('kvm-intel')."""
        found = sorted(self._modules.rglob(f"{name}.ko"))
        if not found:
            raise machine.MachineError(f"the kernel {self.release} has no module {name}")
        return found[0]


def kernel():
    """The kernel to use: the one that is unpacked already, else the newest of Debian's."""
    root = FOLDER / "kernel"
    if not (root / "lib/modules").is_dir():
        dependency = re.search(r"Depends: (linux-image-\S+)", _output("apt-cache", "depends", META_PACKAGE))
        if not dependency:
            raise machine.MachineError(f"apt-get knows no package {META_PACKAGE}: run apt-get update")
        FOLDER.mkdir(parents=True, exist_ok=True)
        _output("apt-get", "download", "-qq", dependency[1], cwd=FOLDER)
        package = max(FOLDER.glob(f"{dependency[1]}_*.deb"), key=os.path.getmtime)
        unpacked = FOLDER / "kernel.new"
        shutil.rmtree(unpacked, ignore_errors=True)
        _output("dpkg-deb", "-x", str(package), str(unpacked))
        unpacked.rename(root)
    return Kernel(root)


def initramfs(folder, files):
    """A cpio archive in `folder`. `files`: {path in it: source, a path or text}."""
    root = folder / "initramfs"
    for name, source in files.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, str):
            target.write_text(source)
        else:
            shutil.copy(source, target)
    names = sorted(str(p.relative_to(root)) for p in root.rglob("*"))
    archive = folder / "initramfs.cpio"
    with open(archive, "wb") as out:
        subprocess.run(["cpio", "--quiet", "--reproducible", "-o", "-H", "newc", "-R", "0:0"], cwd=root, check=True,
                       input="\n".join(names).encode(), stdout=out)
    return archive


def efi_application(folder, kernel_file, command_line, archive):
    """Kernel, command line and initramfs as one UEFI application."""
    if not STUB.exists():
        raise machine.MachineError(f"{STUB} is missing: run scripts/setup kvm")
    (folder / "cmdline").write_text(command_line)
    (folder / "osrel").write_text('ID=twofold-kvm\nVERSION_ID=1\nPRETTY_NAME="KVM, measured"\n')
    content = {".osrel": folder / "osrel", ".cmdline": folder / "cmdline", ".linux": kernel_file, ".initrd": archive}
    base = int(re.search(r"^ImageBase\s+([0-9a-f]+)", _output("objdump", "-p", str(STUB)), re.M)[1], 16)
    application = folder / "linux.efi"
    options = []
    for section, file in content.items():
        at = base + SECTIONS[section]
        options += ["--add-section", f"{section}={file}", "--change-section-vma", f"{section}={at:#x}"]
    _output("objcopy", *options, str(STUB), str(application))
    return application
