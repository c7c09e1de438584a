"""Tests the texts that messages are made of."""

import shlex

import pytest

from distilbert_jax import messages


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"),
        ("a\nb", r"'a\nb'"),
        ("x" * 81, f"'{'x' * 80}…'"),
        ("x" * 80, f"'{'x' * 80}'"),
        (["x" * 100], f"['{'x' * 78}…"),
        (10**5_000, "an object of type int that is too long to show"),
    ],
    ids=["number", "line break", "long text", "text that just fits", "long list", "integer that Python does not print"],
)
def test_a_value_fits_into_a_line(value, text):
    assert messages.format_value(value) == text


def test_lists_and_counts():
    assert messages.format_list("abc", max_items=3) == "a, b, c"
    assert messages.format_list(range(1_234), max_items=2) == "0, 1 and 1,232 more"
    assert messages.format_count(1, "axis", "axes") == "1 axis"
    assert messages.format_count(2, "axis", "axes") == "2 axes"
    assert messages.format_count(1_000, "document") == "1,000 documents"


def test_differences_have_a_line_each():
    text = messages.format_differences({"steps": (4, 8), "seed": (0, "not set")}, one="before", other="now")
    assert text == "  steps: 4 before, 8 now\n  seed: 0 before, not set now"


def test_a_command_is_quoted_for_the_shell():
    words = ["replay", "runs/my student's run", 3, "losses.soft.weight=1", "texts [draft]"]
    text = messages.format_command(*words)
    assert shlex.split(text) == ["python", "-m", "distilbert_jax", *map(str, words)]
    assert messages.format_command("replay", "runs/a", 3) == "python -m distilbert_jax replay runs/a 3"
