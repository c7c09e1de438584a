"""Files of every format give their documents; files that are not what their suffix says give a clear error."""

import gzip
import json
import lzma

import pyarrow
import pyarrow.parquet
import pytest

from distilbert_jax.data.sources import readers

TEXT = "First line.\nStill the first.\n\n\nThe second é.\n   \nThird."
DOCUMENTS = ["First line.\nStill the first.", "The second é.", "Third."]


def zstd(content):
    return pyarrow.compress(content, "zstd", asbytes=True)


def read(path, field="text"):
    return list(readers.read_documents(path, field=field))


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_blocks_between_blank_lines(tmp_path, suffix):
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd}[suffix]
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(pack(TEXT.encode()))
    assert read(path) == DOCUMENTS


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_jsonl(tmp_path, suffix):
    path = tmp_path / f"a.jsonl{suffix}"
    lines = "".join(json.dumps({"title": i, "body": text}) + "\n" for i, text in enumerate(DOCUMENTS)).encode()
    path.write_bytes(gzip.compress(lines) if suffix else lines)
    assert read(path, "body") == DOCUMENTS
    with pytest.raises(ValueError, match=r"a.jsonl.*, line 1: no text in field 'text'; the record has title, body"):
        read(path)


def test_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"body": DOCUMENTS, "n": [1, 2, 3]}), path)
    assert read(path, "body") == DOCUMENTS
    with pytest.raises(ValueError, match="no column 'text', only body, n"):
        read(path)


def test_byte_order_mark_and_windows_line_ends(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\ntwo\r\n")
    assert read(path) == ["one", "two"]


def test_a_block_without_end_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_BLOCK_CHARACTERS", 40)
    path = tmp_path / "a.txt"
    path.write_text("word " * 30 + "\n" + "x\n" * 100)
    blocks = read(path)
    assert max(map(len, blocks)) <= 80
    assert "".join(blocks).replace("\n", "") == ("word " * 30 + "x" * 100)


BAD = {
    "binary": (b"\x7fELF\x00\x00 text", "a.txt", "line 1: a zero byte. This is a binary file"),
    "latin-1": ("fine\nna\u00efve\n".encode("latin-1"), "a.txt", r"not UTF-8: byte 0xef in line 1 or later.*iconv"),
    "cut gzip": (
        gzip.compress(b"hello " * 1_000)[:-20],
        "a.txt.gz",
        r"cannot be read in line \d+ or later.*copy it again",
    ),
    "no gzip": (b"hello", "a.txt.gz", "cannot be read in line 1 or later"),
    "cut xz": (
        lzma.compress(b"hello " * 1_000)[:-20],
        "a.txt.xz",
        r"cannot be read in line \d+ or later.*copy it again",
    ),
    "no zstd": (b"hello there", "a.txt.zst", "cannot be read in line 1 or later"),
    "cut zstd": (
        zstd(bytes(range(32, 120)) * 5_000)[:-20],
        "a.txt.zst",
        r"cannot be read in line \d+ or later.*copy it again",
    ),
    "no JSON": (b'{"text": "a"}\n{"text": \n', "a.jsonl", "line 2: not JSON"),
    "JSON list": (b"[1]\n", "a.jsonl", "line 1: no text in field 'text'; the record has list"),
    "no Parquet": (b"PAR1 nonsense", "a.parquet", "not a Parquet file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path, name):
    content, file, message = BAD[name]
    path = tmp_path / file
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
