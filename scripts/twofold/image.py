# SPDX-License-Identifier: BSD-2-Clause
"""Settings files and bootable images."""

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOADER = ROOT / "build/BOOTX64.EFI"
HYPERVISOR = ROOT / "build/twofold.elf"
GUESTS = ROOT / "build/guests"


def ini(at_end, vms, extra=""):
    """The text of a settings file. `vms`: (name, [(key, value), ...]) in their order; what is "" is left out."""
    lines = ["[twofold]", f"at_end = {at_end}"]
    if extra:
        lines.append(extra)
    for name, keys in vms:
        lines += ["", f"[{name}]"] + [f"{key} = {value}" for key, value in keys if value != ""]
    return "\n".join(lines) + "\n"


def make(folder, settings, files, hypervisor=HYPERVISOR, loader=LOADER):
    """An image in `folder` with `settings` (text; None: no file), the hypervisor (None: none), the loader and `files`."""
    folder = pathlib.Path(folder)
    modules = [str(f) for f in files]
    if settings is not None:
        (folder / "twofold.ini").write_text(settings)
        modules.append(str(folder / "twofold.ini"))
    if hypervisor is not None:
        modules.append(str(hypervisor))
    image = folder / "twofold.img"
    subprocess.run([str(ROOT / "scripts/image"), str(image), str(loader), *modules], check=True)
    return image


def bare(folder, application):
    """An image in `folder` that boots one UEFI application and has nothing else."""
    folder = pathlib.Path(folder)
    note = folder / "readme"
    note.write_text("This image boots one UEFI application.\n")  # scripts/image wants a file beside it
    image = folder / "bare.img"
    subprocess.run([str(ROOT / "scripts/image"), str(image), str(application), str(note)], check=True)
    return image
