# SPDX-License-Identifier: BSD-2-Clause
"""Small Linux systems to boot: Debian's kernel, an initramfs with busybox and the scripts of guest-tests/linux, and for the
workloads a disk image with what they are made of. All of it goes to build/linux and is made anew when what it is made of
is newer. docs/linux.md tells what each is for."""

import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import threading

from twofold import debian, image, initramfs, linux, machine
from twofold.debian import FOLDER, output

SCRIPTS = image.ROOT / "guest-tests/linux"
GUEST_ABI = image.ROOT / "hv/guest_abi.h"
THIS = pathlib.Path(__file__)

# The systems by the name of their script, and the modules of each besides those that are built into the kernel.
VIRTIO = ["virtio_mmio", "virtio_blk", "virtio_console", "virtio-rng"]
MODULES = {"shell": VIRTIO, "test": VIRTIO, "workloads": [*VIRTIO, "overlay"]}

# Without a speed the kernel would take 9600 baud, which costs where a UART is as slow as that. A panic ends the machine by a
# reset, which ends the run. No option hides a device that is not there.
COMMAND_LINE = "console=ttyS0,115200 panic=-1"

# The kernel's tests of its ciphers are half of what a boot takes; tests of something else go without.
NO_CIPHER_TESTS = "cryptomgr.notests"

# What the workloads are made of.
WORKLOAD_PACKAGES = ["stress-ng", "sqlite3", "redis-server", "redis-tools", "gcc", "libc6-dev"]
PROGRAMS = ["usr/bin/stress-ng", "usr/bin/sqlite3", "usr/bin/redis-server", "usr/bin/redis-benchmark", "usr/bin/redis-cli",
            "usr/bin/gcc", "usr/bin/x86_64-linux-gnu-gcc-12", "usr/bin/x86_64-linux-gnu-as",
            "usr/bin/x86_64-linux-gnu-ld.bfd", "usr/bin/as", "usr/bin/ld"]
COMPILER = "usr/lib/gcc/x86_64-linux-gnu/12"
COMPILER_FILES = ["cc1", "collect2", "liblto_plugin.so", "libgcc.a", "libgcc_s.so", "libgcc_eh.a", "crtbegin*.o", "crtend*.o",
                  "include/std*.h"]
C_LIBRARY = "usr/lib/x86_64-linux-gnu"
C_LIBRARY_FILES = ["crt1.o", "Scrt1.o", "crti.o", "crtn.o", "libc.so", "libc_nonshared.a"]
HEADERS = ["usr/include/*.h", "usr/include/x86_64-linux-gnu/bits", "usr/include/x86_64-linux-gnu/gnu",
           "usr/include/x86_64-linux-gnu/sys"]
LIBRARY_FOLDERS = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"]
DISK_SLACK = 1.06  # of the files' size: the file system's own tables, and no room to spare
DISK_UUID = "6d9eb0f6-6e7c-4a7c-9d0e-2b0a54f0fd03"
EPOCH = 946684800  # of all times in it


_building = threading.Lock()  # tests boot side by side


@dataclasses.dataclass
class System:
    """What to boot."""

    name: str
    kernel: linux.Kernel
    initramfs: pathlib.Path
    disk: pathlib.Path = None  # None: none; else it is to be given read-only
    command_line: str = COMMAND_LINE

    def image(self, pvh=False):
        """The kernel's file: the bzImage, or for PVH the uncompressed one."""
        return self.kernel.vmlinux() if pvh else self.kernel.file

    def files(self, pvh=False):
        """All files that a VM of it needs on the EFI partition."""
        return [self.image(pvh), self.initramfs, *([self.disk] if self.disk else [])]

    def keys(self, append="", pvh=False):
        """Its settings as a VM; `append`: more for the command line."""
        return [("image", self.image(pvh).name), ("args", f"{self.command_line} {append}".strip()),
                ("module", self.initramfs.name), *([("disk", f"{self.disk.name} ro")] if self.disk else [])]


def _is_older(target, sources):
    """Whether `target` is to be made: it is not there, or one of `sources` is newer."""
    return not target.exists() or any(s.stat().st_mtime > target.stat().st_mtime for s in sources)


def busybox():
    """The path of Debian's statically linked busybox."""
    root = FOLDER / "busybox"
    if not root.is_dir():
        debian.unpack(["busybox-static"], root)
    return root / "bin/busybox"


def _program(name):
    """A program of ours, from one file of C, without the C library."""
    source, program = SCRIPTS / f"{name}.c", FOLDER / name
    if _is_older(program, [source, GUEST_ABI]):
        output("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-ffreestanding", "-nostdlib", "-static", "-no-pie", "-fno-pic",
               "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-Wl,--build-id=none", "-s", "-I", str(image.ROOT),
               "-o", str(program), str(source))
    return program


def _programs():
    """Ours, by their names."""
    return {name: _program(name) for name in ("tsc", "mark")}


def _applets():
    """The names that busybox goes by, each to be a link to it."""
    return {f"bin/{name}": initramfs.Link("busybox") for name in output(str(busybox()), "--list").split()
            if name != "busybox"}


def build(name):
    """The system called `name`, one of MODULES; made where that is needed."""
    with _building:
        return _build(name)


def _build(name):
    kernel = linux.kernel()
    script = SCRIPTS / name
    archive = FOLDER / f"{name}.cpio"
    modules = kernel.modules_in_order(MODULES[name])
    sources = [THIS, SCRIPTS / "init", script, *_programs().values(), busybox(), *modules]
    if _is_older(archive, sources):
        files = {"init": SCRIPTS / "init", "run": script, "bin/busybox": busybox(), **_applets(),
                 "dev/console": initramfs.Device(5, 1), "dev/null": initramfs.Device(1, 3),
                 "modules/order": "".join(f"{m.name}\n" for m in modules)}
        files |= {f"bin/{program}": file for program, file in _programs().items()}
        files |= {f"modules/{m.name}": m for m in modules}
        unfinished = archive.with_suffix(".new")
        unfinished.write_bytes(initramfs.archive(files, folders=["proc", "sys", "tmp", "disk", "upper", "root"]))
        unfinished.rename(archive)
    return System(name, kernel, archive, workloads_disk() if name == "workloads" else None)


# --- the workloads' disk --------------------------------------------------------------------------------------


def _copy(root, tree, pattern):
    """Copy what matches `pattern` below `root` to the same place below `tree`: folders whole, and what links lead to."""
    found = sorted(root.glob(pattern))
    if not found:
        raise machine.MachineError(f"Debian's packages have no {pattern}")
    for source in found:
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, tree / source.relative_to(root), symlinks=True, dirs_exist_ok=True)
        else:
            _copy_file(root, tree, source)


def _copy_file(root, tree, path):
    """Copy a file, and when it is a link also the file that it leads to, whose path in the tree is returned; None when
    there is no such file."""
    while os.path.lexists(path):
        target = tree / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(target):
            shutil.copy2(path, target, follow_symlinks=False)
        if not path.is_symlink():
            return target
        link = os.readlink(path)
        path = root / link.lstrip("/") if link.startswith("/") else pathlib.Path(os.path.normpath(path.parent / link))
    return None


def _library(root, tree, name):
    """Copy a library, by its name or (a loader) its path; as _copy_file."""
    for path in [root / name.lstrip("/")] if "/" in name else [root / folder / name for folder in LIBRARY_FOLDERS]:
        target = _copy_file(root, tree, path)
        if target:
            return target
    return None


def _needed(file):
    """The libraries and the loader that an ELF file needs: names, and the loader's path."""
    text = output("readelf", "-Wdl", str(file))
    return re.findall(r"\(NEEDED\).*\[(.+)\]", text) + re.findall(r"interpreter: (.+)\]", text)


def _add_libraries(root, tree):
    """All libraries that what is in `tree` needs, and that those need."""
    waiting = [p for p in tree.rglob("*") if p.is_file() and not p.is_symlink()]
    seen = set()
    while waiting:
        file = waiting.pop()
        with open(file, "rb") as f:
            header = f.read(18)
        if not header.startswith(b"\x7fELF") or header[16] not in (2, 3):  # neither a program nor a library
            continue
        for name in set(_needed(file)) - seen:
            seen.add(name)
            library = _library(root, tree, name)
            if library is None:
                raise machine.MachineError(f"{file.relative_to(tree)} needs {name}, which no package has")
            waiting.append(library)


def _workloads_root():
    """The packages of the workloads, unpacked."""
    root = FOLDER / "packages-root"
    if not root.is_dir():
        debian.unpack(debian.closure(WORKLOAD_PACKAGES), root)
    return root


def _tree(tree):
    """The files of the disk, in the folder `tree`."""
    root = _workloads_root()
    for program in PROGRAMS:
        _copy(root, tree, program)
    for name in COMPILER_FILES:
        _copy(root, tree, f"{COMPILER}/{name}")
    for name in C_LIBRARY_FILES:
        _copy(root, tree, f"{C_LIBRARY}/{name}")
    for name in HEADERS:
        _copy(root, tree, name)
    _add_libraries(root, tree)
    for folder in ("proc", "sys", "dev", "tmp", "run", "etc"):
        (tree / folder).mkdir(exist_ok=True)
    (tree / "bin").mkdir(exist_ok=True)
    shutil.copy(busybox(), tree / "bin/busybox")
    for path, link in _applets().items():
        if not os.path.lexists(tree / path) and path not in ("bin/ar", "bin/strings"):
            (tree / path).symlink_to(link.target)
    for program, file in _programs().items():
        shutil.copy(file, tree / "bin" / program)
    shutil.copytree(SCRIPTS / "work", tree / "work")
    (tree / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n")


def workloads_disk():
    """An ext4 image of the workloads' files: without a journal, as nobody writes to it. Made again it has the same
    content, but not the same bytes: mke2fs keeps when files were changed here."""
    disk = FOLDER / "workloads.img"
    sources = [THIS, *_programs().values(), busybox(), *(SCRIPTS / "work").iterdir()]
    if not _is_older(disk, sources):
        return disk
    tree = FOLDER / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    _tree(tree)
    for path in [tree, *tree.rglob("*")]:
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    size = sum(p.lstat().st_size // 4096 + 1 for p in tree.rglob("*")) * 4096
    unfinished = disk.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    environment = {**os.environ, "E2FSPROGS_FAKE_TIME": str(EPOCH), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    try:
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-O", "^has_journal,^resize_inode", "-m", "0",
                        "-U", DISK_UUID, "-E", f"hash_seed={DISK_UUID},root_owner=0:0,lazy_itable_init=0", "-d", str(tree),
                        str(unfinished), f"{int(size * DISK_SLACK) // 1024}k"], check=True, env=environment,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except subprocess.CalledProcessError as error:
        raise machine.MachineError(f"mke2fs: {error.stderr.strip()}") from error
    unfinished.rename(disk)
    return disk
