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


RECORDS = "".join(json.dumps({"title": i, "body": text}) + "\n" for i, text in enumerate(DOCUMENTS))
TABLE = 'title,body\n0,"First line.\nStill the first."\n\n1, The second é.\n2,\n3,"Third. ""x"", y"\n'
PACK = {"": bytes, ".gz": gzip.compress, ".GZ": gzip.compress, ".xz": lzma.compress, ".zst": zstd}


@pytest.mark.parametrize("suffix", [".jsonl", ".JSONL", ".ndjson", ".json", ".00001-of-00512.json"])
@pytest.mark.parametrize("packed", PACK)
def test_json_lines(tmp_path, suffix, packed):
    path = tmp_path / f"a{suffix}{packed}"
    path.write_bytes(PACK[packed](("\n" + RECORDS).encode()))
    assert read(path, "body") == DOCUMENTS
    with pytest.raises(ValueError, match=r"a.*, line 2: no text in field 'text'; the record has title, body"):
        read(path)


@pytest.mark.parametrize(
    "content", ['[{"text": "a"}]', '{\n "text": "a"\n}', '"text"', "1", "a text", "[" * 100_000, '{"text": "a", "tex']
)
def test_json_that_is_not_lines_of_records(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="a.json: its first line is not a JSON record.*`jq -c"):
        read(path)


def test_an_empty_json_file_has_no_documents(tmp_path):
    (tmp_path / "a.json").write_text("\n\n")
    assert read(tmp_path / "a.json") == []


@pytest.mark.parametrize("suffix", [".txt", ".md", ".TXT"])
def test_records_in_a_file_of_prose_are_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_text("\n" + RECORDS)
    with pytest.raises(ValueError, match="its first line is a JSON record, not prose. .* the suffix .jsonl"):
        read(path)
    path.write_text("{a brace} begins this.\n\n" + RECORDS)
    assert read(path)[0] == "{a brace} begins this."


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".tsv"])
@pytest.mark.parametrize("packed", PACK)
def test_tables(tmp_path, suffix, packed):
    path = tmp_path / f"a{suffix}{packed}"
    table = TABLE.replace(",", "\t") if suffix == ".tsv" else TABLE
    path.write_bytes(PACK[packed](b"\xef\xbb\xbf" + table.replace("\n", "\r\n").encode()))
    last = table.rsplit(" ", 2)[1].replace('""', '"') + " y"
    assert read(path, "body") == [DOCUMENTS[0], " The second é.", f"Third. {last}"]


BAD_TABLES = {
    "no such column": ("id,body\n1,a\n", "line 1: no column 'text'; the columns are 'id', 'body'; name the column"),
    "a capital": ("id,Text\n1,a\n", "no column 'text'; the columns are 'id', 'Text'"),
    "twice": ("text,text\n1,a\n", "line 1: there is more than one column 'text'; keep one of them or rename it"),
    "semicolons": ("id;text\n1;a\n", "the first line is 'id;text', where a semicolon is between the columns"),
    "a cell too many": ("id,text\n1,a\n2,b, c\n", "line 3: .* it has 3 cells, and the first line has 2"),
    "a cell too few": ('id,text\n1,"a\nb"\n2\n', "line 4: .* it has 1 cells"),
    "an open quote": ('id,text\n1,"a\n2,b\n3,c\n', "line 2: the quote that begins .* is never closed"),
    "a quote that joins rows": (
        'id,text\n1,"a\n2,"b"\n',
        "line 2: the quote that begins .* is closed 1 line below, but",
    ),
    "a quote with a backslash": ('id,text\n1,"a \\"b\\" c"\n', "line 2: .* not with a backslash"),
    "no header": ("", "no column 'text'; the columns are none"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables(tmp_path, name):
    content, message = BAD_TABLES[name]
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path / "a.csv")
    assert str(tmp_path / "a.csv") in str(caught.value)


UNKNOWN = [
    "a",
    "a.pdf",
    "a.gz",
    "a.tar.gz",
    "a.txt.gz.xz",
    "a.txt.bz2",
    "a.zip",
    "a.html",
    "a.txt~",
    "a.",
    "a.jsonl.bak",
]


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_formats_are_refused_by_name(tmp_path, name):
    (tmp_path / name).write_text(RECORDS)
    with pytest.raises(
        ValueError, match="cannot be read, because the name does not end in the suffix of a known format"
    ):
        read(tmp_path / name)


def test_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"body": DOCUMENTS, "n": [1, 2, 3]}), path)
    assert read(path, "body") == DOCUMENTS
    with pytest.raises(ValueError, match="no column 'text', only body, n"):
        read(path)
    for suffix in (".gz", ".xz", ".zst"):
        packed = tmp_path / f"a.PARQUET{suffix}"
        packed.write_bytes(PACK[suffix](path.read_bytes()))
        assert read(packed, "body") == DOCUMENTS
        packed.write_bytes(packed.read_bytes()[:-20])
        with pytest.raises(ValueError, match="a.PARQUET.*: cannot be decompressed: .*Copy the file again"):
            read(packed, "body")
        packed.write_bytes(PACK[suffix](b"PAR1 nonsense"))
        with pytest.raises(ValueError, match="a.PARQUET.*: not a Parquet file"):
            read(packed, "body")


def test_parquet_is_not_decompressed_without_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_PARQUET_BYTES", 10**6)
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(bytes(10**7)))
    with pytest.raises(ValueError, match="more than 1,000,000 bytes after decompression"):
        read(tmp_path / "a.parquet.gz")


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
