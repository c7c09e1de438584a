"""Tables: what other programs write is read back the same or refused, and never misread."""

import contextlib
import csv
import io
import json
import re
import shutil
import subprocess

import hypothesis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distilbert_jax.io import tables, untrusted

# Everything that a format could treat specially is frequent.
CHARACTERS = st.sampled_from(
    [*"\",;\t\n\r\\'| a0b", "\r\n", '""', '\\"', "\0", "é", "\xa0", "\u2028", "\x85", "\ufeff"]
)
CELLS = st.lists(CHARACTERS, max_size=6).map("".join)
NAMES = ("text", "text_pair", "label")


def columns_of(count, rows):
    return [dict(zip(NAMES[:count], row[:count], strict=True)) for row in rows]


TABLES = st.builds(columns_of, st.integers(1, 3), st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=4))
DIALECTS = {
    "minimal": dict(quoting=csv.QUOTE_MINIMAL),
    "all": dict(quoting=csv.QUOTE_ALL),
    "other line ends": dict(quoting=csv.QUOTE_MINIMAL, lineterminator="\n"),
    "old line ends": dict(quoting=csv.QUOTE_ALL, lineterminator="\r"),
    "backslash": dict(quoting=csv.QUOTE_MINIMAL, doublequote=False, escapechar="\\"),
    "backslash, all": dict(quoting=csv.QUOTE_ALL, doublequote=False, escapechar="\\"),
    "no quotes": dict(quoting=csv.QUOTE_NONE, escapechar="\\"),
}
STANDARD = ("minimal", "all", "old line ends")
END = "␟"  # of a cell
AMBIGUOUS = re.compile(rf'\0|\\{END}|\\"[,\t\r\n]')
NOT_VISIBLE = {  # what is written as another text, which no reader can see
    "other line ends": re.compile(f"\r{END}"),
    "backslash": re.compile(r"\\"),
    "backslash, all": re.compile(r"\\"),
    "no quotes": re.compile(rf"[\\\n\r]|{END}{END}"),
}


def write_csv(rows, **dialect):
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), **dialect)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def read(path, content, **arguments):
    path.write_bytes(content.encode())
    return [row for _, row in tables.read_csv(path, **arguments)]


def bounded(prove):
    return settings(
        max_examples=5_000 if prove else 100,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_csv_is_read_back_or_refused(dialect, separator, tmp_path, prove):
    @bounded(prove)
    @given(TABLES)
    def one(rows):
        text = END + "".join(cell + END for row in rows for cell in row.values())
        hypothesis.assume(dialect in STANDARD or not NOT_VISIBLE[dialect].search(text))
        content = write_csv(rows, delimiter=separator, **DIALECTS[dialect])
        if dialect in STANDARD and not AMBIGUOUS.search(text):
            assert read(tmp_path / "table", content, separator=separator) == rows
        else:
            with contextlib.suppress(ValueError):
                assert read(tmp_path / "table", content, separator=separator) == rows, content

    one()


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_json_lines_are_read_back_or_refused(ensure_ascii, tmp_path, prove):
    @bounded(prove)
    @given(
        st.lists(st.dictionaries(CELLS, st.none() | st.booleans() | CELLS | st.floats() | st.integers()), max_size=3)
    )
    def one(rows):
        content = "".join(json.dumps(row, ensure_ascii=ensure_ascii) + "\n" for row in rows)
        (tmp_path / "table").write_text(content, encoding="utf-8", newline="")
        expected = [{name.strip(): value for name, value in row.items()} for row in rows]
        with contextlib.suppress(ValueError):
            actual = [row for _, row in tables.read_json_lines(tmp_path / "table", dict)]
            assert repr(actual) == repr(expected), content

    one()


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(st.lists(CHARACTERS, max_size=40).map("".join))
def test_whatever_is_read_is_what_csv_reads(content):
    """Any text at all: if it is read, then as Python's csv does, which joins and cuts cells where quotes are wrong."""
    lines = io.StringIO("a,b\n" + content, newline="")
    try:
        actual = [list(row.values()) for _, row in tables.parse_csv(lines, where="table")[1]]
    except ValueError:
        return
    expected = csv.reader(io.StringIO(content, newline=""), strict=True)
    assert actual == [row for row in expected if row]


def test_lines_are_those_where_rows_begin():
    lines = io.StringIO('text,label\r\n"a\r\nb",x\r\n\r\nc,y\r\n', newline="")
    assert list(tables.parse_csv(lines, where="table")[1]) == [
        (2, {"text": "a\r\nb", "label": "x"}),
        (5, {"text": "c", "label": "y"}),
    ]


def test_memory_is_that_of_a_row():
    """The lines are read as they are needed, so a table may be larger than the memory."""

    def lines():
        yield "text,label\n"
        while True:
            yield '"a, b",x\n'

    assert next(tables.parse_csv(lines(), where="table")[1]) == (2, {"text": "a, b", "label": "x"})


BAD = {
    "an open quote": ('a,b\n"x,1\ny,2\n', """line 2: the quote that begins '"x,1\\\\ny,2' is never closed"""),
    "an open quote that another closes": (
        'a,b\n"x,1\ny,2\n"z,3\nw,4\n',
        "line 2: the quote that begins .* is closed 2 lines below, but 'z' follows it",
    ),
    "a quote in the middle": ('a,b\nx,1\n5" pipe,2\n', "line 3: the cell '5\" pipe' has a quote without a partner"),
    "a comma in a quote in the middle": ('a,b\nsay "x, y",1\n', "line 2: the cell 'say \"x' has a quote without"),
    "a space before a quote": ('a,b\nx, "y"\n', "line 2: the cell ' \"y\"' has a space before its quote"),
    "backslashes": ('a,b\n"say \\"x\\" to",1\n', r'twice: "", not with a backslash: \\"'),
    "backslashes at the end": ('a,b\n"say \\"x\\"",1\n"say \\"y\\"",1\n', r'twice: "", not with a backslash: \\"'),
    "a backslash at the end": ('a,b\n"C:\\",1\n', "has a backslash before a quote where a cell could end"),
    "a backslash in a cell without quotes": ('a,b\n5\\"\\" pipe,1\n', "has a quote with a backslash before it"),
    "a column twice": ("a,b,a\nx,1,y\n", "line 1: there is more than one column 'a'"),
    "a column twice but for a space": ("a,b, a\nx,1,y\n", "line 1: there is more than one column 'a'"),
    "semicolons": ("a;b\nx;1\n", "line 1: the first line is 'a;b', where a semicolon is between the columns"),
    "tabs": ("a\tb\nx\t1\n", "a tab is between the columns, but this file is read with a comma .*, or name it .tsv"),
    "a zero byte": ("a,b\nx\0,1\n", "line 2: a zero byte"),
    "a cell too few": ("a,b\nx\n", "line 2: this row does not have the columns of the first line: it has 1 cells"),
    "a cell too many": ("a,b\nx,y,1\n", "has 3 cells, and the first line has 2. Put a text that contains a comma in"),
    "a row without an end": ('a,b\n"' + "x\n" * 2**9, "line 2: the quote that begins .* is never closed"),
    "a row too long": ("a,b\n" + "x" * 2**10 + ",1\n", "line 2: a row of more than 1,000 characters"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_ROW_CHARACTERS", 1_000)
    content, message = BAD[name]
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path / "table", content)
    assert str(tmp_path / "table") in str(caught.value)
    assert len(str(caught.value)) < 500


def test_commas_in_a_file_of_tabs(tmp_path):
    with pytest.raises(
        ValueError, match="a comma is between the columns, but this file is read with a tab .* name it .csv"
    ):
        read(tmp_path / "table", "a,b\nx,1\n", separator="\t")


def test_columns_without_a_name_are_left_out(tmp_path):
    assert read(tmp_path / "table", ",text,,\n0,a,b,\n") == [{"text": "a"}]


def test_a_field_twice(tmp_path):
    for content in ('{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 2}}'):
        with pytest.raises(ValueError, match="file: the field '[ab]' occurs more than once; keep one of them"):
            untrusted.parse_json(content, dict, where="file")
    (tmp_path / "table").write_text('{"a": 1, " a": 2}')
    with pytest.raises(ValueError, match="line 1: there is more than one column 'a'"):
        list(tables.read_json_lines(tmp_path / "table", dict))


def test_zero_bytes_in_json(tmp_path):
    (tmp_path / "table").write_text('{"a": "x"}\n{"a": "x\\u0000"}\n')
    with pytest.raises(ValueError, match="line 2: the field 'a' has a zero byte"):
        list(tables.read_json_lines(tmp_path / "table", dict))


@pytest.mark.skipif(not shutil.which("iconv"), reason="no iconv")
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-16-be"])
def test_the_command_for_another_encoding_is_right(encoding, tmp_path):
    """What iconv writes is the text, with its apostrophe."""
    path, text = tmp_path / "it's.csv", "text,label\nit’s a boat and a café,1\n"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=r"iconv -f") as caught:
        list(tables.read_csv(path))
    command = re.search(r"iconv -f .* > .*\.utf8\.csv'?", str(caught.value))[0]
    subprocess.run(command, shell=True, check=True)
    assert (tmp_path / "it's.utf8.csv").read_text(encoding="utf-8-sig") == text
