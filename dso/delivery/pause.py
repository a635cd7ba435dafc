"""The keeper's only program: a static executable of some 150 bytes, written out here.

Without arguments it sleeps for ever. With arguments it unlinks each of them and exits; the keeper
uses that to take files away (`docker exec`), since its image holds nothing else. No compiler, no
registry: the image is made from these bytes. ELF: elf(5).
"""

from __future__ import annotations

from dso.errors import EngineUnsupportedError

NAME = "pause"

_BASE = 0x400000
_HEADERS = 64 + 56  # ELF header, one program header
_X86_64, _AARCH64 = 62, 183  # e_machine

_CODE_X86_64 = bytes.fromhex(
    "5b"  #         pop  rbx            ; argc
    "5f"  #         pop  rdi            ; argv[0]
    "ffcb"  #       dec  ebx
    "7411"  #       jz   sleep
    "5f"  #   next: pop  rdi            ; argv[n]
    "6a57" "58"  #  mov  eax, 87        ; unlink(path); a path that is not there does not matter
    "0f05"  #       syscall
    "ffcb"  #       dec  ebx
    "75f6"  #       jnz  next
    "6a3c" "58"  #  mov  eax, 60        ; exit(0)
    "31ff"  #       xor  edi, edi
    "0f05"  #       syscall
    "6a22" "58"  # sleep: mov eax, 34   ; pause()
    "0f05"  #       syscall
    "ebf9"  #       jmp  sleep
)  # fmt: skip

_CODE_AARCH64 = b"".join(
    instruction.to_bytes(4, "little")
    for instruction in (
        0xF94003F3,  #        ldr  x19, [sp]       ; argc
        0x910043F4,  #        add  x20, sp, #16    ; &argv[1]
        0xF1000673,  #        subs x19, x19, #1
        0x54000160,  #        b.eq sleep
        0x92800C60,  #  next: mov  x0, #-100       ; AT_FDCWD
        0xF8408681,  #        ldr  x1, [x20], #8
        0xD2800002,  #        mov  x2, #0
        0xD2800468,  #        mov  x8, #35         ; unlinkat(AT_FDCWD, path, 0)
        0xD4000001,  #        svc  #0
        0xF1000673,  #        subs x19, x19, #1
        0x54FFFF41,  #        b.ne next
        0xD2800000,  #        mov  x0, #0
        0xD2800BA8,  #        mov  x8, #93         ; exit(0)
        0xD4000001,  #        svc  #0
        0xD2800000,  # sleep: mov  x0, #0
        0xD2800001,  #        mov  x1, #0
        0xD2800002,  #        mov  x2, #0
        0xD2800003,  #        mov  x3, #0
        0xD2800928,  #        mov  x8, #73         ; ppoll(NULL, 0, NULL, NULL)
        0xD4000001,  #        svc  #0
        0x17FFFFFA,  #        b    sleep
    )
)

_PROGRAMS = {"amd64": (_X86_64, _CODE_X86_64), "arm64": (_AARCH64, _CODE_AARCH64)}  # by the Engine's names


def executable(architecture: str) -> bytes:
    """The program for an Engine's architecture ("amd64", "arm64"); EngineUnsupportedError for others."""
    if architecture not in _PROGRAMS:
        raise EngineUnsupportedError(
            f"file secrets do not work on an Engine for {architecture} yet",
            hint="use dso:// (an environment variable) here, or an Engine for amd64 or arm64",
        )
    machine, code = _PROGRAMS[architecture]
    return _elf_header(machine) + _program_header(_HEADERS + len(code)) + code


def _elf_header(machine: int) -> bytes:
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)  # 64 bits, little endian, ELF version 1, System V
    return (
        ident
        + _words(2, 2, machine)  # ET_EXEC
        + _words(4, 1)  # version
        + _words(8, _BASE + _HEADERS, 64, 0)  # entry, program headers, no section headers
        + _words(4, 0)  # flags
        + _words(2, 64, 56, 1, 64, 0, 0)  # sizes and numbers of the headers
    )


def _program_header(size: int) -> bytes:
    flags = _words(4, 1, 5)  # PT_LOAD, readable and executable
    return flags + _words(8, 0, _BASE, _BASE, size, size, 0x10000)  # aligned for 64 KiB pages too


def _words(size: int, *values: int) -> bytes:
    return b"".join(value.to_bytes(size, "little") for value in values)
