"""Explains why a file is not UTF-8, with the shell command that converts it."""

import codecs
import pathlib
import shlex

MAX_WESTERN_SHARE = 0.3
"""Largest share of bytes above 127 in text of a Western European language. Other alphabets have more."""

DECOMPRESS_COMMANDS = {".gz": "gzip -dc", ".xz": "xz -dc", ".zst": "zstd -dc"}

# The mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def explain_encoding(path: pathlib.Path, sample: bytes) -> str:
    """Returns sentences that say how a file seems to be encoded and how to convert it to UTF-8.

    Args:
        path: the file; the suffix of its name says how it is compressed.
        sample: bytes of its decompressed content that cannot be read as text, with their neighbours. Marks of an
            encoding are recognized if it begins with the first line.
    """
    if encoding := _find_utf16(sample):
        return f"It is {encoding}. {_format_conversion(path, encoding)}"
    if b"\0" in sample:
        return "This is a binary file, not text: leave it out"
    if _is_mostly_utf8(sample):
        return (
            "The rest is UTF-8, so these bytes are damaged. Correct them in an editor, or remove them and use the new "
            f"file instead: {_format_command(path, '-c -f UTF-8 -t UTF-8')}"
        )
    if _can_be_windows_1252(sample):
        return (
            f"If it is Western European text, it is probably Windows-1252. {_format_conversion(path, 'CP1252')}. For "
            "another encoding, write its name instead of CP1252 (iconv -l lists them)"
        )
    return (
        f"{_format_conversion(path, 'ENCODING')}, where ENCODING is the encoding of the file (iconv -l lists them). If "
        "it is not text, leave it out"
    )


def _find_utf16(sample: bytes) -> str | None:
    """Returns which of UTF-16 and UTF-32 bytes are, by their mark or by their zero bytes, or None."""
    for mark, encoding in _MARKS:
        if sample.startswith(mark):
            return encoding
    # Without a mark, every other byte of mostly Latin text is zero, and no other.
    even, odd = sample[0::2], sample[1::2]
    for encoding, zeros, others in (("UTF-16LE", odd, even), ("UTF-16BE", even, odd)):
        if zeros and zeros.count(0) > len(zeros) / 2 and not others.count(0):
            return encoding
    return None


def _is_mostly_utf8(sample: bytes) -> bool:
    """Returns whether more characters beyond ASCII are UTF-8 than bytes are not."""
    decoded = sample.decode("utf-8", errors="surrogateescape")
    num_beyond_ascii = sum(character > "\x7f" for character in decoded)
    num_bad_bytes = sum("\udc80" <= character <= "\udcff" for character in decoded)
    return num_beyond_ascii - num_bad_bytes > num_bad_bytes


def _can_be_windows_1252(sample: bytes) -> bool:
    """Returns whether bytes are defined in Windows-1252, and no more of them are above 127 than is usual there."""
    try:
        sample.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return sum(byte > 127 for byte in sample) <= MAX_WESTERN_SHARE * len(sample)


def _format_conversion(path: pathlib.Path, encoding: str) -> str:
    """Returns a sentence with the command that converts a file to UTF-8."""
    return f"Convert it and use the new file instead: {_format_command(path, f'-f {encoding} -t UTF-8')}"


def _format_command(path: pathlib.Path, options: str) -> str:
    """Returns a shell command that decompresses a file, converts it with `iconv` and writes NAME.utf8.SUFFIX."""
    decompress = DECOMPRESS_COMMANDS.get(path.suffix.lower())
    plain = path.with_suffix("") if decompress else path
    new = shlex.quote(str(plain.with_name(f"{plain.stem}.utf8{plain.suffix}")))
    old = shlex.quote(str(path))
    return f"{decompress} {old} | iconv {options} > {new}" if decompress else f"iconv {options} {old} > {new}"
