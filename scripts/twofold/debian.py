# SPDX-License-Identifier: BSD-2-Clause
"""Debian packages that are fetched and unpacked into a folder, and not installed: no root, and nothing of this computer
changes. What was fetched stays in build/linux/packages, so that a second time needs no network."""

import pathlib
import re
import shutil
import subprocess
import urllib.parse

from twofold import image, machine

FOLDER = image.ROOT / "build/linux"
PACKAGES = FOLDER / "packages"

# Dependencies that only scripts of an installation need, or drivers of graphics that nothing here opens.
NOT_FOLLOWED = {"adduser", "debconf", "debconf-2.0", "init-system-helpers", "lsb-base", "sysvinit-utils", "dpkg", "tar",
                "libegl-mesa0", "libegl-vendor", "libgl1-mesa-dri", "libgcc-s1-dummy"}


def output(*command, cwd=None):
    """What a command prints; a MachineError with what it complains about when it fails."""
    try:
        return subprocess.run(command, check=True, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True).stdout
    except FileNotFoundError as error:
        raise machine.MachineError(f"{command[0]} is not installed: run scripts/setup linux") from error
    except subprocess.CalledProcessError as error:
        errors = [line for line in error.stderr.strip().splitlines() if not line.startswith("W: ")]  # apt's warnings
        raise machine.MachineError(f"{' '.join(map(str, command))}: {chr(10).join(errors)}") from error


def _describe(names):
    """{package: {field: value}} of those of `names` that apt knows."""
    known = {}
    try:
        text = output("apt-cache", "show", "--no-all-versions", *names)
    except machine.MachineError:  # none of them
        text = ""
    for paragraph in text.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", paragraph, re.M))
        if "Package" in fields:
            known[fields["Package"]] = fields
    return known


def depends(name):
    """The first package that `name` depends on: what a meta package stands for today."""
    fields = _describe([name]).get(name)
    if not fields or not fields.get("Depends"):
        raise machine.MachineError(f"apt-get knows no package {name}: run apt-get update")
    return re.match(r"[^ ,|:(]+", fields["Depends"])[0]


def closure(names):
    """`names` and all that they depend on, in the order of their names. Of alternatives the first that there is."""
    chosen = {}
    wanted = set(names)
    while wanted:
        alternatives = {w: [re.match(r"[^ :(]+", a.strip())[0] for a in w.split("|")] for w in wanted}
        known = _describe(sorted({a for group in alternatives.values() for a in group} - set(chosen)))
        known |= chosen
        wanted = set()
        for text, group in alternatives.items():
            if any(a in NOT_FOLLOWED for a in group):
                continue
            name = next((a for a in group if a in known), None)
            if name is None:
                raise machine.MachineError(f"apt-get knows no package {text}: run apt-get update")
            if name in chosen:
                continue
            chosen[name] = known[name]
            for field in ("Pre-Depends", "Depends"):
                wanted.update(d.strip() for d in known[name].get(field, "").split(",") if d.strip())
    return sorted(chosen)


def _kept(name):
    found = sorted(PACKAGES.glob(f"{name}_*.deb"), key=lambda p: p.stat().st_mtime)
    return found[-1] if found else None


def fetch(names):
    """The .deb files of `names`, fetched where they are not kept already."""
    missing = [n for n in names if _kept(n) is None]
    if missing:
        PACKAGES.mkdir(parents=True, exist_ok=True)
        try:
            output("apt-get", "download", "-qq", *missing, cwd=PACKAGES)
        except machine.MachineError as error:
            raise machine.MachineError(
                f"cannot fetch {', '.join(missing[:5])}{' and more' if missing[5:] else ''}, which needs the network "
                f"once (later runs do not): {error}") from error
    return [_kept(n) for n in names]


def unpack(names, root):
    """Unpack the packages into the folder `root`, which is there only when all of them are in it."""
    files = fetch(names)
    unfinished = root.with_name(root.name + ".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for file in files:
        output("dpkg-deb", "-x", str(file), str(unfinished))
    unfinished.rename(root)


def version(file):
    """Package and version, by the name of its file."""
    name, number, _ = pathlib.Path(file).name.split("_")
    return f"{name} {urllib.parse.unquote(number)}"
