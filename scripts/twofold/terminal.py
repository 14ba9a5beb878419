# SPDX-License-Identifier: BSD-2-Clause
"""The user's terminal as the console of a machine: each key goes there at once, but for an escape."""

import contextlib
import os
import select
import sys
import termios
import threading

ESCAPE = b"\x01"  # Ctrl-A
END_KEYS = b"xX"
HINT = ("Keys go to the guest. Ctrl-A x ends the machine, Ctrl-A Ctrl-A sends one Ctrl-A to the guest, Ctrl-A and any "
        "other key speak to the hypervisor.")
POLL_SECONDS = 0.1


class Escapes:
    """Sorts what is typed: bytes for the machine, and the wish to end it.

    The machine's own escape is the same Ctrl-A: one for the guest is sent as two, any other key of the hypervisor's with
    its Ctrl-A before it.
    """

    def __init__(self):
        self._escaped = False

    def feed(self, data):
        """(bytes for the machine, whether it is to end). What is typed after the wish to end is dropped."""
        out = b""
        for value in data:
            byte = bytes([value])
            if self._escaped:
                self._escaped = False
                if byte in END_KEYS:
                    return out, True
                out += ESCAPE + byte
            elif byte == ESCAPE:
                self._escaped = True
            else:
                out += byte
        return out, False


@contextlib.contextmanager
def raw(fd):
    """The terminal `fd` without echo, line editing and keys that are signals; what is printed there stays as it was, so that
    a newline still begins a line."""
    before = termios.tcgetattr(fd)
    mode = termios.tcgetattr(fd)
    mode[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
    mode[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
    mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSAFLUSH, mode)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSAFLUSH, before)


@contextlib.contextmanager
def connected(send, end):
    """While in this context, what is on the standard input goes to `send` (bytes). Of a terminal each key does at once, and
    the escape calls `end`; of anything else all bytes as they are, and its end ends nothing."""
    fd = sys.stdin.fileno()
    terminal = sys.stdin.isatty()
    closing = threading.Event()

    def typed():
        escapes = Escapes()
        while not closing.is_set():
            if not select.select([fd], [], [], POLL_SECONDS)[0]:
                continue
            data = os.read(fd, 1024)
            for_machine, over = escapes.feed(data) if terminal else (data, False)
            if for_machine:
                send(for_machine)
            if over or (terminal and not data):
                end()
            if over or not data:
                return

    with raw(fd) if terminal else contextlib.nullcontext():
        thread = threading.Thread(target=typed, daemon=True)
        thread.start()
        try:
            yield
        finally:
            closing.set()
            thread.join()
