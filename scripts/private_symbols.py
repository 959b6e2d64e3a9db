"""Makes the unique symbols of shared libraries ordinary ones, in place: python3 private_symbols.py LIBRARY...

GNU's loader merges symbols of type STB_GNU_UNIQUE over all libraries of a process, even those loaded apart from each other. g++ uses
them for static data of templates and inline functions, so two versions of libtorch in one process would share tables that differ.
"""
import mmap
import struct
import sys

SHT_DYNSYM, STB_GLOBAL, STB_GNU_UNIQUE = 11, 1, 10


def make_ordinary(path):
    """Changes the file; returns how many symbols it had."""
    count = 0
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as elf:
        if elf[:6] != b"\x7fELF\x02\x01":
            sys.exit(f"private_symbols: {path}: is no 64-bit little-endian ELF file")
        (sections,) = struct.unpack_from("<Q", elf, 40)
        size, number = struct.unpack_from("<HH", elf, 58)
        for section in range(sections, sections + size * number, size):
            (kind,) = struct.unpack_from("<I", elf, section + 4)
            if kind != SHT_DYNSYM:
                continue
            offset, length = struct.unpack_from("<QQ", elf, section + 24)
            for symbol in range(offset, offset + length, 24):
                if elf[symbol + 4] >> 4 == STB_GNU_UNIQUE:
                    elf[symbol + 4] = STB_GLOBAL << 4 | elf[symbol + 4] & 15
                    count += 1
    return count


for path in sys.argv[1:]:
    make_ordinary(path)
