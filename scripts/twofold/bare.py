# SPDX-License-Identifier: BSD-2-Clause
"""The same kernel and initramfs as a guest has, on the bare emulated machine: what the guest's kernel log and its number of
instructions are compared with.

The kernel starts there as one UEFI application. Bochs logs each byte that is written to the serial port with the time at
which that was, in the machine's own ticks: one for each instruction, and the time that a processor waits in HLT. The first
byte of "EFI stub:" comes when the kernel's own first code has read the initramfs, and the first byte of the system's ready
line when its first program runs; the difference is the way between them. It holds leaving the firmware's boot services,
which a guest's kernel does not do. A guest begins at its entry point with a time-stamp counter of 0, so that the counter
in its ready line is what compares. The kernel's own time stamps would not do: on Bochs it believes CPUID's frequency,
3500 MHz, while the machine has 50.

    scripts/twofold/bare.py [--system test] [--append 'ARGUMENTS']
"""

import argparse
import dataclasses
import pathlib
import re
import sys
import tempfile

if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from twofold import image, linux, machine, systems  # noqa: E402

LOG = image.ROOT / "out/bare-linux.log"
SECONDS = 400
MEMORY_MIB = 1024
STUB_LINE = "EFI stub: "
READY_LINE = "twofold-linux: ready"
LAST_LINE = "twofold-linux: done"
LOGLEVEL = 0  # of what goes to the console: its bytes take time there, 4340 ticks each, and the system prints the log at its end
WARNING = 4  # of the kernel's levels; a lower one is worse
LEVELS = 8
# Bochs' debug message of a byte that is sent (or is the divisor, once, when the speed is set).
SENT = re.compile(r"(\d+)d\[SER *\] com1 register write to  address: 0x03f8 = 0x([0-9a-f]{2})")


@dataclasses.dataclass
class Boot:
    """A boot of Linux by its console's lines."""

    lines: list
    stub_to_ready: int = None  # ticks, on bare Bochs

    def ready(self):
        return re.search(READY_LINE + r", tsc (\d+)", "\n".join(self.lines))

    def tsc_at_ready(self):
        return int(self.ready()[1]) if self.ready() else None

    def kernel_log(self):
        """(level, text) of what the system printed of the kernel's log with levels, between its two marks."""
        return kernel_log(self.lines)


def kernel_log(lines):
    """(level, text without its time) of each line between "log begin" and "log end", as dmesg -r prints them."""
    try:
        begin, end = lines.index("log begin"), lines.index("log end")
    except ValueError:
        return []
    found = re.findall(r"^<(\d+)>\[ *\d+\.\d+\] ?(.*)$", "\n".join(lines[begin + 1:end]), re.M)
    return [(int(level) % LEVELS, text) for level, text in found]


def normalised(text):
    """A line without what differs from boot to boot: numbers."""
    return re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+(\.\d+)?", "N", text)


def warnings_only_in(log, other, level=WARNING):
    """Texts of the lines of `log` that are of `level` or worse and that `other` has not, however often; both are
    (level, text) as kernel_log gives them."""
    known = {normalised(text) for _, text in other}
    return [text for its_level, text in log if its_level <= level and normalised(text) not in known]


def serial_times(log):
    """(tick, byte) of each byte that was sent, from the lines of a Bochs log."""
    return [(int(match[1]), chr(int(match[2], 16))) for match in map(SENT.match, log) if match]


def tick_of(times, text):
    """The tick at which the first byte of the first `text` was sent, or None."""
    sent = "".join(byte for _, byte in times)
    at = sent.find(text)
    return times[at][0] if at >= 0 else None


def boot(system, append="", processors=1, cpu_model=None, loglevel=LOGLEVEL, on_line=lambda line: None):
    """Boot a system (of twofold.systems) on bare Bochs to its end; its log goes to out/bare-linux.log."""
    lines = []
    command_line = f"{system.command_line} loglevel={loglevel} {append}".strip()
    with tempfile.TemporaryDirectory(prefix="twofold-bare-") as name:
        folder = pathlib.Path(name)
        application = linux.efi_application(folder, system.kernel.file, command_line, system.initramfs)
        disk = image.bare(folder, application)
        run = machine.Run("bochs", disk, folder, SECONDS, cpu_model, MEMORY_MIB, processors, bochs_debug="serial=report")
        for raw in run.lines():
            lines.append(raw.rstrip(b"\r").decode("utf-8", "replace"))
            on_line(lines[-1])
            if lines[-1].startswith(LAST_LINE):
                run.end()  # this firmware has no ACPI tables on Bochs, so that the kernel cannot switch the machine off
        with open(folder / "bochs.log", encoding="latin-1") as log:
            times = serial_times(log)
        if run.timed_out:
            raise machine.MachineError(f"Linux on bare Bochs has not ended after {SECONDS} seconds")
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("\n".join(lines) + "\n", encoding="utf-8")
    stub, ready = tick_of(times, STUB_LINE), tick_of(times, READY_LINE)
    return Boot(lines, ready - stub if stub is not None and ready is not None else None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=list(systems.MODULES), default="test")
    parser.add_argument("--loglevel", type=int, default=LOGLEVEL, help="of the console while the kernel runs (0)")
    parser.add_argument("--append", default="-- checks=none log")
    args = parser.parse_args()
    try:
        result = boot(systems.build(args.system), args.append, loglevel=args.loglevel, on_line=print)
    except machine.MachineError as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        return 1
    print(f"from the EFI stub's first line to the ready line: {result.stub_to_ready} ticks")
    print(f"TSC at the ready line, firmware included: {result.tsc_at_ready()}")
    print(f"{len(warnings_only_in(result.kernel_log(), []))} warnings in {LOG.relative_to(image.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
