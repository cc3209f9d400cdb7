"""The filter of system calls that systemd would build from deploy/systemd/riskgate.service, as a BPF program for bubblewrap:
so that what the unit forbids is known to be something that riskgate does not need. x86-64 alone."""

import pathlib
import re
import struct
import subprocess

UNIT = pathlib.Path(__file__).resolve().parents[2] / "deploy/systemd/riskgate.service"
NUMBERS = pathlib.Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")

# <linux/bpf_common.h>, <linux/seccomp.h>, <linux/audit.h>, <bits/mman.h>
LOAD, JUMP_EQUAL, JUMP_ANY_BIT, AND, RETURN = 0x20, 0x15, 0x45, 0x54, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EPERM, ENOSYS = 1, 38
X86_64 = 0xC000003E
WRITE, EXECUTE = 2, 4
# Offsets in `struct seccomp_data`.
NUMBER, ARCHITECTURE, THIRD_ARGUMENT = 0, 4, 32


def settings(name):
    """The values of a setting of the unit, in order."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def members(group):
    """The system calls of one of systemd's groups."""
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", group], capture_output=True, text=True, check=True
    )
    found = set()
    for line in done.stdout.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            found |= members(word)
        elif word and not word.startswith("#"):
            found.add(word)
    return found


def allowed():
    """The names of the calls that the unit allows."""
    found = set()
    for value in settings("SystemCallFilter"):
        groups = value.removeprefix("~").split()
        calls = set().union(*(members(word) if word.startswith("@") else {word} for word in groups))
        found = found - calls if value.startswith("~") else found | calls
    return found


def program():
    """The BPF program."""
    numbers = dict(re.findall(r"^#define __NR_(\w+) (\d+)$", NUMBERS.read_text(), re.MULTILINE))
    calls = sorted(int(numbers[name]) for name in allowed() if name in numbers)
    if len(calls) < 200 or settings("MemoryDenyWriteExecute") != ["yes"]:
        raise ValueError("the unit is not understood")
    code = [(LOAD, 0, 0, ARCHITECTURE), (JUMP_EQUAL, 1, 0, X86_64), (RETURN, 0, 0, ERRNO | ENOSYS), (LOAD, 0, 0, NUMBER)]
    # MemoryDenyWriteExecute=: no mapping that can be written and run, and none that becomes one that can be run.
    for name, bits in [("mmap", WRITE | EXECUTE), ("mprotect", EXECUTE), ("pkey_mprotect", EXECUTE)]:
        code += [
            (JUMP_EQUAL, 0, 5, int(numbers[name])),
            (LOAD, 0, 0, THIRD_ARGUMENT),
            (AND, 0, 0, bits),
            (JUMP_EQUAL, 0, 1, bits),
            (RETURN, 0, 0, ERRNO | EPERM),
            (LOAD, 0, 0, NUMBER),
        ]
    for number in calls:
        code += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    code.append((RETURN, 0, 0, ERRNO | EPERM))
    return b"".join(struct.pack("HBBI", *line) for line in code)
