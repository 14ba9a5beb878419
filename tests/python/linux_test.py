#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The Linux side without a machine: archives, kernels out of bzImages, logs that are compared, keys that are typed, a
serial port's pseudo-terminal. Prints "ok NAME" or "FAIL NAME: why" for each test."""

import gzip
import lzma
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import termios
import time
import tty

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT / "tests/boot"))

import run as boot_tests  # noqa: E402
from twofold import bare, console, initramfs, linux, machine, suite, terminal, workloads  # noqa: E402


def archives_have_the_right_form():
    """Read back by the kernel's description of the format; that a kernel reads it too, each boot shows."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "program").write_bytes(b"\x7fELF and more")
        files = {"init": "#!/bin/sh\n", "etc/odd": "abc", "bin/program": folder / "program",
                 "bin/link": initramfs.Link("program"), "dev/console": initramfs.Device(5, 1)}
        data = initramfs.archive(files, folders=["proc", "a/b"])
        assert data == initramfs.archive(files, folders=["a/b", "proc"]), "the order of arguments shows"
        found = {}
        at = 0
        while True:
            assert at % 4 == 0 and data[at:at + 6] == b"070701"
            fields = [int(data[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
            path = data[at + 110:at + 110 + fields[11] - 1].decode()
            assert data[at + 110 + fields[11] - 1] == 0
            begin = (at + 110 + fields[11] + 3) & ~3
            if path == "TRAILER!!!":
                break
            found[path] = (fields[1], data[begin:begin + fields[6]], fields[9:11])
            at = (begin + fields[6] + 3) & ~3
        assert list(found) == ["a", "a/b", "bin", "bin/link", "bin/program", "dev", "dev/console", "etc", "etc/odd", "init",
                               "proc"], list(found)
        assert found["init"][:2] == (0o100755, b"#!/bin/sh\n")
        assert found["etc/odd"][:2] == (0o100644, b"abc")
        assert found["bin/program"][0] == 0o100755
        assert found["bin/link"][:2] == (0o120777, b"program")
        assert found["dev/console"] == (0o020600, b"", [5, 1])
        assert found["a/b"][0] == 0o040755


def bzimage(payload):
    """A file with just what a boot loader of the kernel's own looks at."""
    image = bytearray(0x300)
    image[0x1F1] = 1  # one sector of set-up after the first
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 16, len(payload))
    return bytes(image).ljust(1024, b"\0") + b"\xcc" * 16 + payload + b"\xcc" * 7


def kernels_are_unpacked():
    elf = b"\x7fELF" + bytes(range(256)) * 40
    size = struct.pack("<I", len(elf))
    for name, payload in {
        "gzip": gzip.compress(elf),
        "xz": lzma.compress(elf) + size,
        "lz4": subprocess.run(["lz4", "-lc"], input=elf, stdout=subprocess.PIPE, check=True).stdout + size,
        "zstd": subprocess.run(["zstd", "-qc"], input=elf, stdout=subprocess.PIPE, check=True).stdout + size,
    }.items():
        assert linux.decompress_bzimage(bzimage(payload)) == elf, name


def broken_kernels_are_refused():
    elf = b"\x7fELF" + bytes(100)
    for image, phrase in ((b"\0" * 2048, "no bzImage"), (bzimage(b"BZh9" + bytes(50)), "unknown way"),
                          (bzimage(lzma.compress(elf) + struct.pack("<I", 99)), "no whole ELF"),
                          (bzimage(gzip.compress(b"no ELF")), "no whole ELF")):
        try:
            linux.decompress_bzimage(image)
        except machine.MachineError as error:
            assert phrase in str(error), error
        else:
            raise AssertionError(f"{phrase}: taken")


LOG = """\
[    0.1] not in the log
log begin
<6>[    0.000000] Linux version 6.1
<4>[    0.000000] MTRR: at 0xfee00000 12 of 34
<12>[    1.500000] from a program
<3>[    1.500000] ata1: failed
log end
<3>[    2.0] after it""".splitlines()


def warnings_are_compared():
    log = bare.kernel_log(LOG)
    assert log == [(6, "Linux version 6.1"), (4, "MTRR: at 0xfee00000 12 of 34"), (4, "from a program"), (3, "ata1: failed")]
    assert bare.kernel_log(["log begin"]) == []
    other = [(4, "MTRR: at 0xfec00000 1 of 2"), (6, "from a program")]
    assert bare.warnings_only_in(log, other) == ["ata1: failed"]
    assert bare.warnings_only_in(log, []) == [text for level, text in log if level <= 4]


def ticks_are_found():
    log = [f"{100 + 10 * i:011d}d[SER   ] com1 register write to  address: 0x03f8 = 0x{ord(c):02x}\n"
           for i, c in enumerate("\x01EFI stub: x")]
    log.insert(3, "00000000125d[SER   ] com1 register read from address: 0x03fd = 0x20\n")
    times = bare.serial_times(log)
    assert bare.tick_of(times, bare.STUB_LINE) == 110, times
    assert bare.tick_of(times, "nothing") is None
    assert bare.Boot(["", "twofold-linux: ready, tsc 1234, 2 processors"]).tsc_at_ready() == 1234
    assert bare.Boot(["ready, tsc 1234"]).tsc_at_ready() is None


def workload_record(name, **more):
    return {"bench": name, "vm": "shadow", "paging": "shadow", "vcpus": 1, "ticks": 2_100_000, "host_ticks": 500_000, "audit_ticks": 100_000, "exits": 1234,
            "exits_by": {"hlt": 4, "cr_access": 1200, "io": 30}, "walk_refs": 4.04, "pt_writes_trapped": 5, "promotions": 6,
            "demotions": 7, "state_ticks": {"nested": 0, "compound": 1, "shadow": 3}, "ok": True} | more


def workloads_become_a_table():
    assert workloads.NAMES[0] == "vm" and workloads.NAMES[-3:] == ["sqlite", "redis", "gcc"] and len(workloads.NAMES) == 17
    lines = [console.parse(b"shadow| result gcc ok 123"), console.parse(b"shadow| result vm FAIL no; such")]
    boot = suite.Result(records=[workload_record("gcc"), workload_record("vm"),
                                 workload_record("vm", vm="nested", paging="nested", walk_refs=None)],
                        ends={"shadow": {"end": "poweroff", "why": ""}})
    found = workloads.collect(boot, lines)
    assert [r["result"] for r in found] == ["ok", "FAIL no; such", "it printed none"], found
    assert workloads.problems(boot, found[:1], ["shadow"], "gcc") == []
    wrong = workloads.problems(boot, found, ["shadow", "nested"], "gcc,vm")
    assert wrong == ["nested did not end", "shadow: vm: FAIL no; such", "nested: vm: it printed none",
                     "nested: gcc has no record"], wrong
    assert workloads.problems(boot, [found[0] | {"ok": False}], ["shadow"], "gcc") == ["shadow: gcc: ok"]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in workloads.table(found).splitlines()]
    assert all(len(row) == len(rows[0]) for row in rows)
    assert rows[-1] == ["gcc", "shadow", "ok", "2", "25 %", "1,234", "cr_access 1,200, io 30, hlt 4", "4.0", "0 %, 25 %, 75 %",
                        "5", "6", "7"], rows[-1]
    assert [row[1:3] for row in rows[2:4]] == [["shadow", "FAIL"], ["nested", "FAIL"]] and rows[3][-5:] == ["-"] * 5, rows


def keys_are_sorted():
    keys = terminal.Escapes()
    assert keys.feed(b"ls\x03\r") == (b"ls\x03\r", False)
    assert keys.feed(b"\x01") == (b"", False)
    assert keys.feed(b"\x01a") == (b"\x01\x01a", False)  # one for the guest, by the hypervisor's own escape
    assert keys.feed(b"b\x01sc") == (b"b\x01sc", False)
    assert keys.feed(b"d\x01xrest") == (b"d", True)


def nothing_is_lost_on_the_terminal():
    """All values in both directions, from the machine three times as fast as a UART sends on Bochs (4340 instructions a
    byte) and while nobody asks for them. A write that finds no room is an emulator's lost byte."""
    port = machine.Terminal()
    fd = os.open(port.path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
    values = bytes(range(256))
    out = values * 500
    sent = 0
    deadline = time.monotonic() + 120  # a busy computer
    while sent < len(out) and time.monotonic() < deadline:
        sent += os.write(fd, out[sent:sent + 64])
        time.sleep(0.001)
    port.send(values)
    got = b""
    while len(got) < len(values) and time.monotonic() < deadline:
        try:
            got += os.read(fd, 1)  # one at a time, as a UART takes them
        except BlockingIOError:
            time.sleep(0.001)
    os.close(fd)
    received = b"".join(iter(port.read, b""))
    received += port.rest()
    port.close()
    assert received == out, f"{len(received)} of {len(out)} bytes came from the machine"
    assert got == values, f"{len(got)} of {len(values)} bytes came to the machine"


def a_raw_terminal_comes_back():
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    with terminal.raw(slave):
        during = termios.tcgetattr(slave)
        assert not during[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        assert during[tty.OFLAG] == before[tty.OFLAG]
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def answers_are_typed_when_awaited():
    typed = []
    typist = boot_tests.Typist([(b"# ", b"ls\r"), (b"# ", b"exit\r"), (b"twofold: end", b"x")], typed.append)
    for raw, count in ((b"twofold: guest: starts", 0), (b"guest| login", 0), (b"guest+ #", 0), (b"guest+  ", 1), (b"guest| a b", 1),
                       (b"guest+ # ", 2), (b"guest| # ", 2), (b"twofold: end of it", 3)):
        typist.see(console.parse(raw))
        assert len(typed) == count, (raw, typed)
    assert typed == [b"ls\r", b"exit\r", b"x"]


def the_soak_has_its_guests():
    """Each by a name of its own, in an order that the seed gives."""
    def names(seed):
        return subprocess.run([ROOT / "scripts/soak", "--list", "--no-linux", "--seed", seed], capture_output=True, text=True,
                              check=True).stdout.split()

    first, again, other = names("1"), names("1"), names("2")
    assert first == again and len(first) > 100 and len(set(first)) == len(first), first
    assert first != other and {n for n in first if n.startswith("attack")} == {n for n in other if n.startswith("attack")}


TESTS = [the_soak_has_its_guests, answers_are_typed_when_awaited, archives_have_the_right_form, kernels_are_unpacked, broken_kernels_are_refused, warnings_are_compared,
         ticks_are_found, workloads_become_a_table, keys_are_sorted, nothing_is_lost_on_the_terminal, a_raw_terminal_comes_back]


def main():
    failed = 0
    for test in TESTS:
        name = f"linux: {test.__name__.replace('_', ' ')}"
        try:
            test()
            print(f"ok {name}")
        except Exception as error:
            failed += 1
            print(f"FAIL {name}: {type(error).__name__}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
