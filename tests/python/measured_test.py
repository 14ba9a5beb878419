#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Measured launch and Secure Boot, on QEMU with OVMF and a software TPM (swtpm): what the loader hashes, gives to the
TPM and refuses, against what Python computes from the files. Each boot has several disks, which the firmware tries in turn
until one of them starts. Prints "ok NAME" or "FAIL NAME: why" for each check.

Secure Boot's keys are OVMF's "snakeoil" ones, whose private half Debian ships for tests."""

import array
import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts"))

from twofold import console, image  # noqa: E402

CODE = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
VARIABLES = {"plain": "/usr/share/OVMF/OVMF_VARS_4M.fd", "secure": "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd"}
KEY, KEY_PASSWORD = "/usr/share/ovmf/PkKek-1-snakeoil.key", "snakeoil"
CERTIFICATE = "/usr/share/ovmf/PkKek-1-snakeoil.pem"
LIMIT = 180  # seconds of one boot, on a slow and busy machine; alone it takes a few
PCR = 9
SIDE_BY_SIDE = 2
ENDS = (b"@end ", b"BdsDxe: No bootable option", b"UEFI Interactive Shell")
GUEST = image.GUESTS / "ends.elf"


# --- the software TPM -------------------------------------------------------------------------------------------------


class Tpm:
    """One swtpm, which keeps its registers when QEMU is killed: then they can be read here."""

    SET_DATA_CHANNEL = 0x10  # CMD_SET_DATAFD of its control channel
    PCR_READ = 0x17E
    SHA256 = 0xB

    def __init__(self, folder):
        self.path = folder / "tpm.sock"
        state = folder / "tpm"
        state.mkdir()
        self.process = subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}",
                                         "--ctrl", f"type=unixio,path={self.path}"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + LIMIT
        while not self.path.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("swtpm does not start")
            time.sleep(0.01)

    def options(self):
        return ["-chardev", f"socket,id=tpm,path={self.path}", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
                "-device", "tpm-crb,tpmdev=tpm0"]

    def pcr(self, number):
        """The register's value in the SHA-256 bank, by a control connection in the place of QEMU's."""
        ours, theirs = socket.socketpair()
        with socket.socket(socket.AF_UNIX) as control, ours, theirs:
            control.connect(str(self.path))
            control.sendmsg([struct.pack(">I", self.SET_DATA_CHANNEL)],
                            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))])
            if control.recv(4) != bytes(4):
                raise RuntimeError("swtpm takes no new connection")
            ours.sendall(struct.pack(">HIIIHB3s", 0x8001, 20, self.PCR_READ, 1, self.SHA256, 3,
                                     (1 << number).to_bytes(3, "little")))
            answer = ours.recv(4096)
        return answer[-32:].hex() if len(answer) == 62 and answer[6:10] == bytes(4) else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


# --- boots ------------------------------------------------------------------------------------------------------------


class Seen:
    def __init__(self, lines):
        self.lines = [console.parse(line) for line in lines]
        self.text = "\n".join(line.text() for line in self.lines)

    def records(self, kind):
        return [line.value for line in self.lines if line.kind == "record" and line.name == kind]


def boot(folder, disks, variables, tpm=None, on_line=lambda line: None):
    """The console's lines of a machine with these disks, up to the hypervisor's end or the firmware's."""
    own = folder / "variables.fd"
    shutil.copy(VARIABLES[variables], own)
    serial = folder / "serial"
    serial.touch()
    command = ["timeout", "--signal=KILL", str(LIMIT), "qemu-system-x86_64", "-machine", "q35,smm=on,accel=tcg",
               "-cpu", "max", "-m", "512M", "-global", "driver=cfi.pflash01,property=secure,value=on",
               "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={CODE}",
               "-drive", f"if=pflash,unit=1,format=raw,file={own}",
               "-serial", f"file:{serial}", "-display", "none", "-net", "none", "-no-reboot",
               *(tpm.options() if tpm else [])]
    for number, disk in enumerate(disks):
        command += ["-drive", f"if=none,id=d{number},format=raw,file={disk},snapshot=on",
                    "-device", f"ide-hd,drive=d{number},bus=ide.{number},bootindex={number}"]
    lines, part = [], b""
    with open(serial, "rb") as file, open(folder / "qemu.log", "wb") as log:
        machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            while not any(end in line for line in lines[-8:] for end in ENDS):
                *whole, part = (part + file.read()).split(b"\n")
                for line in whole:
                    lines.append(re.sub(rb"\x1b\[[0-9;=?]*[A-Za-z]", b"", line.rstrip(b"\r")))
                    on_line(lines[-1])
                if not whole and machine.poll() is not None:
                    break
                time.sleep(0.02)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(machine.pid, signal.SIGKILL)
            machine.wait()
    return Seen(lines)


def settings(more=""):
    """A run without guests, which a processor without VT-x can do."""
    return f"[twofold]\nat_end = stay\nself_test = processors\n{more}\n[ends]\nimage = ends.elf\n"


def disk(folder, name, text, loader=image.LOADER, extra=()):
    """A disk with the loader, these settings, the hypervisor, a guest, and more files; and the files themselves."""
    place = folder / name
    place.mkdir()
    (place / "twofold.ini").write_text(text)
    files = [image.HYPERVISOR, place / "twofold.ini", GUEST, *extra]
    subprocess.run([ROOT / "scripts/image", place / "disk.img", loader, *files], check=True)
    return place / "disk.img", files


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def expected_pcr(files):
    """A register begins as zeros; each file makes it the hash of itself and the file's hash. Settings first, then by name."""
    value = bytes(32)
    for path in sorted(files, key=lambda path: (path.name != "twofold.ini", path.name)):
        value = hashlib.sha256(value + hashlib.sha256(path.read_bytes()).digest()).digest()
    return value.hex()


# --- checks -----------------------------------------------------------------------------------------------------------


class Case:
    """The checks of one boot: (name, why it failed or None)."""

    def __init__(self, name):
        self.name = name
        self.results = []

    def check(self, name, good, why=""):
        self.results.append((f"{self.name}: {name}", None if good else why))

    def says(self, seen, name, phrase):
        self.check(name, phrase in seen.text.replace("\n", ""), f"'{phrase}' is not in: {seen.text[-600:]}")

    def hashes(self, seen, files, listed, extended):
        """`extended`: the files that the TPM must have taken; None: of no interest."""
        wanted = [{"file": p.name, "bytes": p.stat().st_size, "sha256": sha256(p), "listed": listed}
                  for p in sorted(files, key=lambda path: path.name)]
        records = seen.records("hash")
        found = [{key: value for key, value in r.items() if key != "extended"} for r in records]
        self.check("each file's SHA-256 is Python's", found == wanted, f"{json.dumps(found)} is not {json.dumps(wanted)}")
        self.check("lines say the same", all(f"twofold: sha256: {w['sha256']} {w['file']}" in seen.text for w in wanted),
                   seen.text[-600:])
        if extended is not None:
            taken = [r["file"] for r in records if r["extended"]]
            self.check("the TPM took what it had to", taken == sorted(p.name for p in extended), str(taken))
        self.check("the hypervisor runs to its end", seen.records("end") == [{"status": 0}], seen.text[-600:])


def signed_loader(folder, name, files):
    """A loader signed by OVMF's test key, for these files."""
    key = folder / "key.pem"
    if not key.exists():
        subprocess.run(["openssl", "rsa", "-in", KEY, "-passin", f"pass:{KEY_PASSWORD}", "-out", key], check=True, capture_output=True)
    out = folder / name
    subprocess.run([ROOT / "scripts/sign", key, CERTIFICATE, image.LOADER, out, *files], check=True)
    return out


def secure_boot(folder):
    """Five disks that must be refused, each for its own reason, before the one that is as it was signed."""
    case = Case("Secure Boot")
    text = settings("measure = required")
    _, files = disk(folder, "as-signed", text)
    signed = signed_loader(folder, "signed.efi", files)
    tampered = folder / "tampered.efi"
    content = bytearray(signed.read_bytes())
    content[content.index(b"twofold.elf\n")] ^= 1  # of the list: nothing but the signature can miss it
    tampered.write_bytes(content)
    no_list = folder / "no-list.efi"
    subprocess.run(["sbsign", "--key", folder / "key.pem", "--cert", CERTIFICATE, "--output", no_list, image.LOADER],
                   check=True, capture_output=True)
    more = folder / "more.elf"
    more.write_bytes(GUEST.read_bytes())
    disks = [disk(folder, "unsigned", text)[0], disk(folder, "tampered", text, tampered)[0],
             disk(folder, "no-list", text, no_list)[0], disk(folder, "settings", text.replace("stay", "reset"), signed)[0],
             disk(folder, "more", text, signed, [more])[0], disk(folder, "good", text, signed)[0]]
    with Tpm(folder) as tpm:
        seen = boot(folder, disks, "secure", tpm)
        found = tpm.pcr(PCR)
    denied = set(re.findall(r"BdsDxe: failed to load (Boot\d+).*: Access Denied", seen.text))
    case.check("the firmware refuses an unsigned and a tampered loader", len(denied) == 2, seen.text[:1500])
    case.says(seen, "a signed loader without a list is refused by itself", "this loader has no list of the files")
    case.says(seen, "other settings than the signed ones are refused", r"\twofold\twofold.ini is not in the list")
    case.says(seen, "a file that is not in the list is refused", r"\twofold\more.elf is not in the list")
    case.hashes(seen, files, True, files)
    case.check("the TPM's register is Python's", found == expected_pcr(files), f"it is {found}, not {expected_pcr(files)}")
    wanted = [{"tpm": "extended", "pcr": PCR, "sha256": expected_pcr(files), "secure_boot": True}]
    case.check("the loader read the same register", seen.records("measured") == wanted, str(seen.records("measured")))
    return case


def failing_tpm(folder, measure):
    """The TPM goes away while the loader reads and hashes a large file, before it gives the TPM any of the others."""
    large = folder / "a.large"
    large.write_bytes(bytes(24 << 20))
    place, files = disk(folder, measure, settings(f"measure = {measure}"), extra=[large])
    with Tpm(folder) as tpm:
        seen = boot(folder, [place], "plain", tpm, lambda line: tpm.kill() if b"BdsDxe: starting Boot" in line else None)
    return files, seen


def failing_tpm_is_told(folder):
    case = Case("a TPM that fails")
    files, seen = failing_tpm(folder, "auto")
    case.says(seen, "is told", r"Twofold: the TPM did not take \twofold")
    case.hashes(seen, files, False, None)
    states = [r["tpm"] for r in seen.records("measured")]
    case.check("the record says so", states == ["failed"], str(states))
    return case


def failing_tpm_is_refused(folder):
    case = Case("a TPM that fails, and is required")
    _, seen = failing_tpm(folder, "required")
    case.says(seen, "is told", r"Twofold: the TPM did not take \twofold")
    case.says(seen, "ends the boot", "measure = required, and the TPM failed")
    case.check("the hypervisor is not started", "starting the hypervisor" not in seen.text, "it is")
    return case


def no_tpm(folder):
    case = Case("no TPM")
    required, _ = disk(folder, "required", settings("measure = required"))
    auto, files = disk(folder, "auto", settings())
    seen = boot(folder, [required, auto], "plain")
    case.says(seen, "is refused where it is required", "measure = required, and the firmware offers no TPM 2.0")
    case.hashes(seen, files, False, [])
    wanted = [{"tpm": "none", "pcr": PCR, "sha256": None, "secure_boot": False}]
    case.check("the record says so", seen.records("measured") == wanted, str(seen.records("measured")))
    return case


def measured_off(folder):
    """The settings are measured before they are read: they cannot hide that they turn the rest off."""
    case = Case("measure = off")
    off, files = disk(folder, "off", settings("measure = off"))
    with Tpm(folder) as tpm:
        seen = boot(folder, [off], "plain", tpm)
        found = tpm.pcr(PCR)
    ini = [path for path in files if path.name == "twofold.ini"]
    case.hashes(seen, ini, False, ini)
    case.check("the settings alone are in the register", found == expected_pcr(ini), f"it is {found}")
    return case


def run(test):
    start = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="twofold-measured-") as folder:
            results = test(pathlib.Path(folder)).results
    except Exception as error:  # a broken runner is a failed test, not the end of the others
        results = [(f"{test.__name__}: runs", f"{type(error).__name__}: {error}")]
    return test.__name__, time.monotonic() - start, results


def main():
    tests = [secure_boot, failing_tpm_is_told, failing_tpm_is_refused, measured_off, no_tpm]
    chosen = [t for t in tests if not sys.argv[1:] or any(word in t.__name__ for word in sys.argv[1:])]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for name, seconds, results in pool.map(run, chosen):
            print(f"# {name}: {seconds:.0f} s", flush=True)
            for check, why in results:
                failed += why is not None
                print(f"ok {check}" if why is None else f"FAIL {check}: {why}", flush=True)
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
