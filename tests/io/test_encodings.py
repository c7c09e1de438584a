"""The command that a message gives really converts the file: it is run here."""

import gzip
import lzma
import re
import shutil
import subprocess

import pyarrow
import pytest

from distilbert_jax.data.sources import readers
from distilbert_jax.io import encodings, untrusted

WESTERN = "It’s the café – “naïve” words, and some more of them.\n\nÉtude : CAFÉ\xa0! The end of the text."
CYRILLIC = "Лодка на реке. Это был хороший день для рыбы.\n\nСтарая дорога идёт через холм."
PACK = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pyarrow.compress(content, "zstd", asbytes=True),
}


def error_of(path) -> str:
    with pytest.raises(ValueError, match="a zero byte|not UTF-8") as caught:
        list(readers.read_documents(path, field="text"))
    assert str(path) in str(caught.value)
    return str(caught.value)


def run_command(message: str):
    """Runs the shell command of a message."""
    command = re.search(r"((?:iconv|gzip|xz|zstd) .*? > (?:'.*?'|[^\s,]+?))(?:\. For another|, where|$)", message)[1]
    if missing := [tool for tool in re.findall(r"(?:^|\| )(\w+) -", command) if not shutil.which(tool)]:
        pytest.skip(f"{missing[0]} is not installed")
    subprocess.run(command, shell=True, check="-c" not in command.split(), capture_output=True)


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize(
    "encoding, text",
    [
        ("utf-16", WESTERN),
        ("utf-16", CYRILLIC),
        ("utf-16-le", WESTERN),
        ("utf-16-be", WESTERN),
        ("utf-32", WESTERN),
        ("cp1252", WESTERN),
        ("latin-1", "na\u00efve, caf\u00e9\n\nand more"),
    ],
)
def test_the_command_converts_the_file(tmp_path, encoding, text, suffix):
    path = tmp_path / f"it's a text.txt{suffix}"
    path.write_bytes(PACK[suffix](text.encode(encoding)))
    run_command(error_of(path))
    new = tmp_path / "it's a text.utf8.txt"
    assert new.read_text(encoding="utf-8-sig") == text
    assert list(readers.read_documents(new, field="text")) == text.split("\n\n")


def test_a_big_endian_mark(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xfe\xff" + WESTERN.encode("utf-16-be"))
    run_command(error_of(path))
    assert (tmp_path / "a.utf8.txt").read_text(encoding="utf-8-sig") == WESTERN


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "shift_jis"])
def test_no_guess_where_one_would_be_wrong(tmp_path, encoding):
    """Windows-1252 has a character for nearly all these bytes: it would give a file of wrong letters."""
    text = "ボートは川にあります。\n\n馬は歩く。" if encoding == "shift_jis" else CYRILLIC
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    message = error_of(path)
    assert "CP1252" not in message
    assert "iconv -f ENCODING -t UTF-8" in message
    run_command(message.replace("ENCODING", encoding.replace("_", "-"), 1))
    assert (tmp_path / "a.utf8.txt").read_text() == text


def test_a_few_damaged_bytes_are_not_another_encoding(tmp_path):
    path = tmp_path / "a.txt"
    content = CYRILLIC.encode()
    path.write_bytes(content[:40] + b"\x92" + content[40:])
    message = error_of(path)
    assert "The rest is UTF-8, so these bytes are damaged" in message
    run_command(message)
    assert (tmp_path / "a.utf8.txt").read_text() == CYRILLIC


def test_a_binary_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0>\0\x01\0\0\0\xff\xfe")
    assert "This is a binary file, not text: leave it out" in error_of(path)


def test_the_same_for_files_that_are_read_at_once(tmp_path):
    """As tables and configurations are."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\n" * 100_000 + WESTERN.encode("cp1252"))
    with pytest.raises(ValueError, match=r"a.csv, line 100001: not UTF-8: byte 0x92. If .* Windows-1252") as caught:
        untrusted.read_text(path)
    run_command(str(caught.value))
    assert (tmp_path / "a.utf8.csv").read_text().endswith(WESTERN)
    assert len(encodings.explain_encoding(path, b"x" * 2**16)) < 500
