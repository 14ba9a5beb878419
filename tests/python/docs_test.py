#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What README.md and docs/ tell people to type: that each command, option, variable, setting, file, link and name of a booted
test in them is there. Commands that cost nothing are run (`--help`, `make -n`); settings go through the hypervisor's own parser.
Prints "ok NAME" or "FAIL NAME: why" for each document."""

import ctypes
import functools
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True

# Beginnings of paths in the repository. build/ and out/ are made.
FOLDERS = ("boot/", "hv/", "arch/", "drivers/", "docs/", "guest-tests/", "scripts/", "tests/")
SECTION = re.compile(r"\[[\w.-]+\]")
KEY = re.compile(r"(\w+) = (.+)")
PLACEHOLDER = re.compile(r"\b[A-Z]{1,}\b")


# --- the documents' parts -----------------------------------------------------------------------------------------


def documents():
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text):
    """Runs of lines that are indented by four blanks or more, or stand between fences; with their indentation off."""
    found, fenced = [[]], False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
            found.append([])
        elif fenced:
            found[-1].append(line)
        elif line.startswith("    "):
            found[-1].append(line[4:])
        elif not line.strip() and found[-1]:
            found[-1].append("")
        else:
            found.append([])
    return [b for b in found if b]


def spans(text):
    """Pieces of code within the text, which may go over a line's end."""
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]


def commands(text):
    """Command lines as lists of words, from blocks and from spans of code."""
    lines = [line for block in blocks(text) for line in block] + spans(text)
    for line in lines:
        line = line.removeprefix("$ ")
        if not re.match(r"(make|python3|scripts/[\w./-]+|tests/[\w/]+\.py)( |$)", line):
            continue
        line = re.sub(r"\[([^\]]*)\](\.\.\.)?", r"\1", line)  # what is optional
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue  # an apostrophe: a sentence
        yield [word for word in words if word not in ("...", "\\")]


# --- make and scripts -------------------------------------------------------------------------------------------------


def run(*command):
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=120, check=False)
    return done.returncode, done.stdout


@functools.cache
def makefiles():
    files = [ROOT / "Makefile", *ROOT.glob("*/*.mk"), *ROOT.glob("*/*/*.mk")]
    return "\n".join(path.read_text() for path in files)


@functools.cache
def make_dry(arguments):
    """What is wrong with a call of make; with -n it only says what it would do."""
    status, said = run("make", "-n", "--no-print-directory", *arguments)
    return None if status == 0 else said.strip().splitlines()[-1:]


def check_make(words):
    words = words[1:]
    variables = [w for w in words if "=" in w]
    targets = [w for w in words if "=" not in w]
    for variable in variables:
        name = variable.partition("=")[0]
        if f"$({name}" not in makefiles():
            yield f"make: no makefile uses the variable {name}"
    if not targets or any(PLACEHOLDER.fullmatch(t) for t in targets):
        return
    # Values that stand for another are for people: what is tried has the targets, and the values that are whole.
    whole = [v for v in variables if not re.search(r"\.\.\.|=[A-Z]+$", v)]
    if wrong := make_dry((*targets, *whole)):
        yield f"make {' '.join(targets + whole)}: {wrong}"


@functools.cache
def help_of(script):
    """What a script says of itself: by --help, or its text, where that is a shell's, or a test's, which would run."""
    text = (ROOT / script).read_text(errors="replace")
    if "argparse.ArgumentParser" not in text:
        return 0, text
    return run(sys.executable, script, "--help")


def check_script(words):
    script, arguments = words[0], words[1:]
    if not (ROOT / script).is_file():
        yield f"{script} is not there"
        return
    status, said = help_of(script)
    if status != 0:
        yield f"{script} --help ends with status {status}"
    for word in arguments:
        option = word.partition("=")[0]
        if re.fullmatch(r"--[a-z][\w-]*", option) and option not in said and option != "--help":
            yield f"{script}: it does not know {option}"
    if script == "tests/boot/run.py":
        for name in arguments:
            if not name.startswith("-") and name not in scenario_names():
                yield f"{script}: no booted test has '{name}' in its name"


@functools.cache
def scenario_names():
    """The names of all booted tests, as one text to look parts up in."""
    program = "import sys; sys.path[:0] = ['scripts', 'tests/boot']; import run; print(*(s.name for s in run.SHORT + run.LONG))"
    return run(sys.executable, "-c", program)[1]


# --- settings ---------------------------------------------------------------------------------------------------------


class Module(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("size", ctypes.c_size_t)]


class ModuleList(ctypes.Structure):
    _fields_ = [("modules", ctypes.POINTER(Module)), ("count", ctypes.c_size_t)]


SETTINGS_BYTES = 16 << 20  # more than struct settings takes
WHY_BYTES = 4096


@functools.cache
def parser():
    """The hypervisor's parser as a library of this machine."""
    sources = run("make", "-s", "--eval=show: ; @echo $(settings_SOURCES)", "show")[1].split()
    with tempfile.TemporaryDirectory() as folder:
        library = pathlib.Path(folder) / "settings.so"
        subprocess.run(["gcc", "-std=gnu11", "-shared", "-fPIC", "-I.", "-o", library, *sources], cwd=ROOT, check=True)
        return ctypes.CDLL(str(library))


def parse_settings(text):
    """None, or the parser's message. Every file that the settings name is there."""
    names = [value.split()[0] for key, value in re.findall(r"^(image|module|disk) = (.+)$", text, re.M)]
    modules = (Module * max(1, len(names)))(*(Module(name.encode(), None, 0) for name in names))
    out, why = ctypes.create_string_buffer(SETTINGS_BYTES), ctypes.create_string_buffer(WHY_BYTES)
    content = text.encode()
    parse = parser().settings_parse
    parse.restype = ctypes.c_bool
    good = parse(content, ctypes.c_size_t(len(content)), ctypes.byref(ModuleList(modules, len(names))), out, why)
    return None if good else why.value.decode()


def check_settings_block(lines):
    """From its first section on a block is a settings file, or a part of one."""
    text = "\n".join(lines) + "\n"
    if "image = " not in text:
        text += "[a]\nimage = a\n"
    if wrong := parse_settings(text):
        yield f"settings: {wrong}"


def check_setting(span):
    """`key = value` within the text: of [twofold], or of a VM. A value in capitals stands for one."""
    key, value = KEY.fullmatch(span).groups()
    known = re.search(rf'{{"{key}",', (ROOT / "hv/settings_keys.c").read_text())
    if not known:
        return [f"settings: there is no key '{key}'"]
    if PLACEHOLDER.search(value) or value == "...":
        return []
    tries = [parse_settings(f"[twofold]\n{span}\n{'' if key == 'run' else 'run = together'}\n[a]\nimage = a\n"), parse_settings(f"[a]\n{span}\n" + ("" if key == "image" else "image = a\n"))]
    return [] if None in tries else [f"settings: `{span}`: {tries[0]}; {tries[1]}"]


# --- files and links --------------------------------------------------------------------------------------------------


def alternatives(path):
    """a.{c,h} is a.c and a.h."""
    match = re.search(r"\{([^}]*)\}", path)
    if not match:
        return [path]
    return [one for part in match[1].split(",") for one in alternatives(path[:match.start()] + part.strip() + path[match.end():])]


def check_path(span):
    for path in alternatives(span):
        if not (list(ROOT.glob(path)) if "*" in path else (ROOT / path).exists()):
            yield f"{path} is not there"


def check_links(document, text):
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target and not (document.parent / target).exists():
            yield f"a link leads to {target}, which is not there"


# --- all of it --------------------------------------------------------------------------------------------------------


def problems(document):
    text = document.read_text(encoding="utf-8")
    for words in commands(text):
        if words[0] == "make":
            yield from check_make(words)
        elif words[0] == "python3":
            if len(words) > 1 and words[1].endswith(".py"):
                yield from check_script(words[1:])
        elif (ROOT / words[0]).suffix not in ("", ".py"):
            yield from check_path(words[0])
        elif not (ROOT / words[0]).is_dir():
            yield from check_script(words)
    for lines in blocks(text):
        first = next((i for i, line in enumerate(lines) if SECTION.fullmatch(line.strip())), len(lines))
        if any(KEY.match(line) for line in lines[first:]):
            yield from check_settings_block(lines[first:])
    for span in spans(text):
        path = re.sub(r":\d+$", "", span.split(",")[0].split()[0]) if span.split() else ""
        if path.startswith(FOLDERS) and not PLACEHOLDER.search(path):
            yield from check_path(span.split()[0] if "{" in span else path)
        elif re.fullmatch(r"[a-z_]+ = \S.*", span) and not span.endswith("="):
            yield from check_setting(span)
    yield from check_links(document, text)


def main():
    failed = 0
    for document in documents():
        found = list(dict.fromkeys(problems(document)))
        name = f"{document.relative_to(ROOT)}: what it names is there, and its commands run"
        print(f"FAIL {name}: {'; '.join(found)}" if found else f"ok {name}", flush=True)
        failed += bool(found)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
