# SPDX-License-Identifier: BSD-2-Clause
"""Machines that boot an image: Bochs, QEMU with its own emulation, QEMU with KVM.

Each gives the lines of its serial console as they come, ends by itself, and is ended at a time limit. The console
is a file, or, for a run that takes input, a pseudo-terminal.
"""

import array
import dataclasses
import fcntl
import os
import pathlib
import queue
import re
import select
import shutil
import signal
import subprocess
import termios
import threading
import time
import tty

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
com1: enabled=1, mode={serial_mode}, dev={serial}
port_e9_hack: enabled=1
log: {folder}/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore{debug}
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


def _bochs_command(folder, image, machine_settings):
    rc = folder / "rc"
    rc.write_text("c\nquit\n")  # Debian's Bochs has its debugger built in and starts at its prompt
    config = folder / "bochsrc"
    m = machine_settings
    config.write_text(
        BOCHSRC.format(
            memory=m.memory, host=min(m.memory, BOCHS_HOST_MIB), ovmf=OVMF, vga=VGA_BIOS, serial=m.serial,
            serial_mode="term" if m.terminal else "file", folder=folder, image=image,
            model=m.cpu_model or "corei7_skylake_x", processors=m.processors,
            debug=f", {m.bochs_debug}" if m.bochs_debug else "",
        )
    )
    return ["bochs-bin", "-q", "-f", str(config), "-rc", str(rc)]


def _qemu_command(folder, image, machine_settings, kvm):
    m = machine_settings
    variables = folder / "ovmf.fd"
    shutil.copy(OVMF, variables)  # the firmware writes its settings into its own file
    cpu = m.cpu_model or ("host" if kvm else "max")
    return [
        "qemu-system-x86_64", "-machine", "q35" + (",accel=kvm" if kvm else ",accel=tcg"),
        "-cpu", cpu, "-smp", str(m.processors), "-m", f"{m.memory}M",
        "-drive", f"if=pflash,format=raw,file={variables}",
        "-drive", f"format=raw,file={image},snapshot=on",
        "-serial", str(m.serial) if m.terminal else f"file:{m.serial}",
        "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-display", "none", "-net", "none",
        "-no-reboot", *(word for device in m.devices for word in ("-device", device)),
    ]


@dataclasses.dataclass
class Settings:
    """What a machine is made of."""

    serial: pathlib.Path  # what the serial port is connected to
    terminal: bool  # a pseudo-terminal, not a file
    cpu_model: str  # None: the machine's usual one
    memory: int  # MiB
    processors: int
    devices: list  # further ones of QEMU's, as for its -device
    bochs_debug: str  # devices whose debug messages bochs.log is to have: "serial=report"


class Console:
    """The console's bytes of a run that takes no input: the emulator writes them to a file."""

    def __init__(self, folder):
        self.path = folder / "serial"
        self.path.touch()
        self._file = open(self.path, "rb")

    def read(self):
        """What has come, or b"" at once or after a moment."""
        data = self._file.read()
        if not data:
            time.sleep(POLL_SECONDS)
        return data

    def rest(self):
        """What was left when the emulator had ended."""
        return self._file.read()

    def close(self):
        self._file.close()


class Terminal:
    """A pseudo-terminal: the emulator has the slave's end as its serial port, both directions are here.

    The emulator writes to it without looking whether there is room, so a thread of its own empties it, whatever the
    rest of the program does. In the other direction an emulated UART takes a byte from the terminal as soon as the line's
    speed allows, and drops what its 16-byte FIFO cannot take: another thread gives it one byte at a time, each when the one
    before is gone and a moment has passed in which the machine could have read it.
    """

    SEND_GAP_SECONDS = 0.005
    CHUNK = 1 << 16

    def __init__(self):
        self._master, self._slave = os.openpty()  # with the slave open here, too, no end is a hang-up
        tty.setraw(self._slave, termios.TCSANOW)
        self.path = pathlib.Path(os.ttyname(self._slave))
        self._received = queue.SimpleQueue()
        self._to_send = queue.SimpleQueue()
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=loop, daemon=True) for loop in (self._receive, self._transmit)]
        for thread in self._threads:
            thread.start()

    def _receive(self):
        while not self._closing.is_set():
            if select.select([self._master], [], [], POLL_SECONDS)[0]:
                self._received.put(os.read(self._master, self.CHUNK))

    def _unread(self):
        count = array.array("i", [0])
        fcntl.ioctl(self._slave, termios.FIONREAD, count)
        return count[0]

    def _transmit(self):
        while (byte := self._to_send.get()) is not None:
            while self._unread() and not self._closing.is_set():
                time.sleep(self.SEND_GAP_SECONDS)
            if self._closing.is_set():
                return
            os.write(self._master, byte)
            time.sleep(self.SEND_GAP_SECONDS)

    def send(self, data):
        """Bytes for the machine's serial port, in their order; does not wait."""
        for value in data:
            self._to_send.put(bytes([value]))

    def read(self):
        try:
            return self._received.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return b""

    def rest(self):
        """What was left: the pseudo-terminal keeps it when the emulator has gone."""
        self._closing.set()
        self._threads[0].join()
        data = b""
        while not self._received.empty():
            data += self._received.get()
        while select.select([self._master], [], [], 0)[0]:
            data += os.read(self._master, self.CHUNK)
        return data

    def close(self):
        self._closing.set()
        self._to_send.put(None)
        for thread in self._threads:
            thread.join()
        os.close(self._master)
        os.close(self._slave)


class Run:
    """One boot of `image`. Iterate for the console's lines; then `timed_out` and `status` are known.

    `interactive`: `send` gives the serial port input. The time limit is in seconds, memory in MiB.
    """

    def __init__(self, machine, image, folder, limit_seconds, cpu_model=None, memory=MEMORY_MIB, processors=1,
                 interactive=False, bochs_debug="", devices=()):
        self.timed_out = False
        self.status = None
        self._limit = limit_seconds
        folder = pathlib.Path(folder)
        self._console = Terminal() if interactive else Console(folder)
        settings = Settings(self._console.path, interactive, cpu_model, memory, processors, list(devices), bochs_debug)
        if machine == "bochs":
            command = _bochs_command(folder, image, settings)
        else:
            command = _qemu_command(folder, image, settings, machine == "kvm")
        if shutil.which(command[0]) is None:
            raise MachineError(f"{command[0]} is not installed: run scripts/setup")
        # Should this script be killed, the emulator still ends. And it is not the one that leads the session, so that
        # a pseudo-terminal does not become its controlling terminal.
        command = ["timeout", "--signal=KILL", str(int(limit_seconds) + GRACE_SECONDS), *command]
        environment = {k: v for k, v in os.environ.items() if k != "DISPLAY"}
        environment["TERM"] = "xterm"
        self._log = open(folder / "emulator.log", "wb")
        self._process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            env=environment, start_new_session=True,
        )

    def send(self, data):
        """Bytes for the serial port of an interactive run."""
        self._console.send(data)

    def lines(self, idle=None):
        """Yield each line of the console, bytes without line end. `idle` is called now and then."""
        deadline = time.monotonic() + self._limit
        part = b""
        ended = False
        while not ended:
            ended = self._process.poll() is not None
            data = self._console.rest() if ended else self._console.read()
            *whole, part = (part + data).split(b"\n")
            for line in whole:
                yield _clean(line)
            if not ended and time.monotonic() > deadline:
                self.timed_out = True
                self.end()
            if not data and idle:
                idle()
        if part:
            yield _clean(part)
        self.status = self._process.returncode
        self._console.close()
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
