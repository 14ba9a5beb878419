# SPDX-License-Identifier: BSD-2-Clause
"""Machines that boot an image: Bochs, QEMU with its own emulation, QEMU with KVM.

Each gives the lines of its serial console as they come, ends by itself, and is ended at a time limit.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

OVMF = "/usr/share/ovmf/OVMF.fd"
VGA_BIOS = "/usr/share/bochs/VGABIOS-lgpl-latest"
MEMORY_MIB = 3072  # leaves a whole free GiB, aligned to 1 GiB, for 1-GiB EPT pages
BOCHS_HOST_MIB = 2048  # the most that Bochs takes; the rest it keeps in a file
POLL_SECONDS = 0.05
GRACE_SECONDS = 30

# See docs/machines.md for what each line is needed for.
BOCHSRC = """\
plugin_ctrl: unmapped=1, biosdev=0, speaker=0, extfpuirq=0, parallel=0, serial=1, iodebug=0
config_interface: textconfig
display_library: term
memory: guest={memory}, host={host}
romimage: file={ovmf}
vgaromimage: file={vga}
pci: enabled=1, chipset=i440fx
cpu: model={model}, count={processors}, ips=50000000, reset_on_triple_fault=0, cpuid_limit_winnt=0
clock: sync=none, time0=946684800
com1: enabled=1, mode=file, dev={serial}
port_e9_hack: enabled=1
log: {folder}/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path={image}, mode=volatile, biosdetect=none
boot: disk
"""

ESCAPE = re.compile(rb"\x1b\[[0-9;=?]*[A-Za-z]")


class MachineError(Exception):
    """The machine cannot be started; the text says why and what to do."""


def kvm_has_nested_vmx():
    """Whether this host's KVM gives VT-x to its guests."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    try:
        nested = pathlib.Path("/sys/module/kvm_intel/parameters/nested").read_text().strip()
        flags = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return nested in ("Y", "1") and re.search(r"^flags\b.*\bvmx\b", flags, re.M) is not None


def choose(name):
    """The machine to use: `name`, or for 'auto' the best one there is."""
    if name == "auto":
        return "kvm" if kvm_has_nested_vmx() else "bochs"
    if name not in ("bochs", "qemu", "kvm"):
        raise MachineError(f"MACHINE={name}: must be auto, bochs, qemu or kvm")
    if name == "kvm" and not kvm_has_nested_vmx():
        raise MachineError(
            "MACHINE=kvm: this host's KVM offers no nested VMX. It needs an Intel processor, access to "
            "/dev/kvm, and 'nested=1' for the module kvm_intel; MACHINE=bochs runs anywhere"
        )
    return name


def at_end_setting(machine):
    """The value of `at_end` by which the hypervisor ends this machine with a status."""
    return "bochs" if machine == "bochs" else "qemu"


def _bochs_command(folder, image, serial, cpu_model, memory, processors):
    rc = folder / "rc"
    rc.write_text("c\nquit\n")  # Debian's Bochs has its debugger built in and starts at its prompt
    config = folder / "bochsrc"
    config.write_text(
        BOCHSRC.format(
            memory=memory, host=min(memory, BOCHS_HOST_MIB), ovmf=OVMF, vga=VGA_BIOS, serial=serial,
            folder=folder, image=image, model=cpu_model or "corei7_skylake_x", processors=processors,
        )
    )
    return ["bochs-bin", "-q", "-f", str(config), "-rc", str(rc)]


def _qemu_command(folder, image, serial, cpu_model, kvm, memory, processors):
    variables = folder / "ovmf.fd"
    shutil.copy(OVMF, variables)  # the firmware writes its settings into its own file
    cpu = cpu_model or ("host" if kvm else "max")
    return [
        "qemu-system-x86_64", "-machine", "q35" + (",accel=kvm" if kvm else ",accel=tcg"),
        "-cpu", cpu, "-smp", str(processors), "-m", f"{memory}M", "-drive", f"if=pflash,format=raw,file={variables}",
        "-drive", f"format=raw,file={image},snapshot=on", "-serial", f"file:{serial}",
        "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-display", "none", "-net", "none",
        "-no-reboot",
    ]


class Run:
    """One boot of `image`. Iterate for the console's lines; then `timed_out` and `status` are known."""

    def __init__(self, machine, image, folder, limit_seconds, cpu_model=None, memory=MEMORY_MIB, processors=1):
        self.timed_out = False
        self.status = None
        self._limit = limit_seconds
        self._serial = pathlib.Path(folder) / "serial"
        self._serial.touch()
        folder = pathlib.Path(folder)
        if machine == "bochs":
            command = _bochs_command(folder, image, self._serial, cpu_model, memory, processors)
        else:
            command = _qemu_command(folder, image, self._serial, cpu_model, machine == "kvm", memory, processors)
        if shutil.which(command[0]) is None:
            raise MachineError(f"{command[0]} is not installed: run scripts/setup")
        # Should this script be killed, the emulator still ends.
        command = ["timeout", "--signal=KILL", str(int(limit_seconds) + GRACE_SECONDS), *command]
        environment = {k: v for k, v in os.environ.items() if k != "DISPLAY"}
        environment["TERM"] = "xterm"
        self._log = open(folder / "emulator.log", "wb")
        self._process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            env=environment, start_new_session=True,
        )

    def lines(self, idle=None):
        """Yield each line of the console, bytes without line end. `idle` is called now and then."""
        deadline = time.monotonic() + self._limit
        rest = b""
        with open(self._serial, "rb") as console:
            while True:
                ended = self._process.poll() is not None
                data = console.read()
                rest += data
                *whole, rest = rest.split(b"\n")
                for line in whole:
                    yield _clean(line)
                if ended and not data:
                    break
                if not ended and time.monotonic() > deadline:
                    self.timed_out = True
                    self.end()
                if not data:
                    if idle:
                        idle()
                    time.sleep(POLL_SECONDS)
        if rest:
            yield _clean(rest)
        self.status = self._process.returncode
        self._log.close()

    def end(self):
        """End the emulator now."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _clean(line):
    """Without the one carriage return that the UART driver added, and the firmware's screen control."""
    if line.endswith(b"\r"):
        line = line[:-1]
    return ESCAPE.sub(b"", line) if line.startswith(b"\x1b") else line
