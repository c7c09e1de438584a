"""GLUE (Wang et al., 2019): readers for the released files of the nine tasks and the diagnostic set.

The files are not CSV: fields are separated by tabs, quotes have no meaning, CoLA has no header, and MRPC starts with a
byte-order mark.
"""

import dataclasses
import pathlib
from collections.abc import Iterator

from distilbert_jax.data.tasks import metrics
from distilbert_jax.data.tasks.examples import Example, parse_finite
from distilbert_jax.data.tasks.metrics import MetricFunction
from distilbert_jax.data.tasks.task_types.classification import Classification
from distilbert_jax.io import untrusted


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlueTask:
    """One task of GLUE.

    Attributes:
        folder: the name of its folder in the released archive.
        columns: the names of the columns for the text, for the second text if there is one, and for the label.
        labels: the classes in the benchmark's order; empty for a regression task.
        metrics: the functions that compute its metrics.
        dev: the splits it is evaluated on.
        header: the names of all columns if the released files have no header.
        skips_broken_rows: True if the released files contain rows with too few columns, which everybody leaves out.
    """

    folder: str
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[MetricFunction, ...]
    dev: tuple[str, ...] = ("dev",)
    header: tuple[str, ...] | None = None
    skips_broken_rows: bool = False

    def read(self, folder: pathlib.Path, split: str) -> list[Example]:
        """Returns the examples of a split. Examples of a file without labels (test) have the label None.

        Args:
            folder: the task's own folder.
            split: the name of the split, such as "train" or "dev".

        Raises:
            ValueError: the file is missing, a row has too few columns or a label is unknown; the message names file
                and line.
        """
        dev_ids = _read_dev_ids(folder)
        path = _find_file(folder, "train" if dev_ids and split == "dev" else split)
        rows = list(self._iter_rows(path))
        if dev_ids and split in ("train", "dev"):
            rows = [
                (line, row)
                for line, row in rows
                if ((row.get("#1 ID"), row.get("#2 ID")) in dev_ids) == (split == "dev")
            ]
        if not rows:
            raise ValueError(f"{path}: the file has no examples")
        *text_columns, label_column = self.columns
        missing = [name for name in text_columns if name not in rows[0][1]]
        if missing:
            raise ValueError(f"{path}: there is no column {missing[0]!r}, only {', '.join(rows[0][1])}")
        return [
            Example(
                id=str(number),
                texts=tuple(row[name] for name in text_columns),
                label=self._parse_label(row[label_column], path, line) if label_column in row else None,
                location=f"{path}, line {line}",
            )
            for number, (line, row) in enumerate(rows)
        ]

    @property
    def task_type(self) -> Classification:
        """The task type, with the labels and metrics of this task."""
        return Classification(labels=self.labels, metrics=self.metrics)

    def _iter_rows(self, path: pathlib.Path) -> Iterator[tuple[int, dict[str, str]]]:
        """Yields (line number, {column: text})."""
        # Not splitlines(): a text may contain other line breaks of Unicode.
        lines = untrusted.read_text(path).split("\n")
        header = self.header
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            cells = line.rstrip("\r").split("\t")
            # A first line that names the text columns is a header, even if the released files have none.
            if header is None or (number == 1 and set(cells) >= set(self.columns[:-1])):
                header = tuple(cells)
            elif len(cells) == len(header):
                yield number, dict(zip(header, cells, strict=True))
            elif not self.skips_broken_rows:
                raise ValueError(f"{path}, line {number}: {len(cells)} columns, but the header has {len(header)}")

    def _parse_label(self, text: str, path: pathlib.Path, line: int) -> int | float:
        """Returns the number of a class, given by name or number, or the value of a regression label."""
        names = self.labels if text in self.labels else [str(i) for i in range(len(self.labels))]
        try:
            return names.index(text) if self.labels else parse_finite(text)
        except ValueError:
            expected = f"one of {', '.join(self.labels)}" if self.labels else "a finite number"
            raise ValueError(f"{path}, line {line}: the label {text!r} is not {expected}") from None


_ENTAILMENT_LABELS = ("entailment", "not_entailment")
_NLI_LABELS = ("entailment", "neutral", "contradiction")
_SENTENCE_COLUMNS = ("sentence1", "sentence2")
_ACCURACY_AND_F1 = (metrics.accuracy, metrics.f1)

TASKS = {
    "cola": GlueTask(
        folder="CoLA",
        columns=("sentence", "label"),
        labels=("unacceptable", "acceptable"),
        metrics=(metrics.matthews_correlation,),
        header=("source", "label", "original", "sentence"),
    ),
    "sst2": GlueTask(
        folder="SST-2", columns=("sentence", "label"), labels=("negative", "positive"), metrics=(metrics.accuracy,)
    ),
    "mrpc": GlueTask(
        folder="MRPC",
        columns=("#1 String", "#2 String", "Quality"),
        labels=("not_equivalent", "equivalent"),
        metrics=_ACCURACY_AND_F1,
    ),
    "qqp": GlueTask(
        folder="QQP",
        columns=("question1", "question2", "is_duplicate"),
        labels=("not_duplicate", "duplicate"),
        metrics=_ACCURACY_AND_F1,
        skips_broken_rows=True,
    ),
    "stsb": GlueTask(
        folder="STS-B",
        columns=(*_SENTENCE_COLUMNS, "score"),
        labels=(),
        metrics=(metrics.pearson_correlation, metrics.spearman_correlation),
    ),
    "mnli": GlueTask(
        folder="MNLI",
        columns=(*_SENTENCE_COLUMNS, "gold_label"),
        labels=_NLI_LABELS,
        metrics=(metrics.accuracy,),
        dev=("dev_matched", "dev_mismatched"),
    ),
    "qnli": GlueTask(
        folder="QNLI", columns=("question", "sentence", "label"), labels=_ENTAILMENT_LABELS, metrics=(metrics.accuracy,)
    ),
    "rte": GlueTask(
        folder="RTE", columns=(*_SENTENCE_COLUMNS, "label"), labels=_ENTAILMENT_LABELS, metrics=(metrics.accuracy,)
    ),
    "wnli": GlueTask(
        folder="WNLI",
        columns=(*_SENTENCE_COLUMNS, "label"),
        labels=("not_entailment", "entailment"),
        metrics=(metrics.accuracy,),
    ),
    "ax": GlueTask(
        folder="AX",
        columns=(*_SENTENCE_COLUMNS, "label"),
        labels=_NLI_LABELS,
        metrics=(metrics.matthews_correlation,),
        dev=("ax",),
    ),
}


def _read_dev_ids(folder: pathlib.Path) -> set[tuple[str | None, ...]]:
    """Returns the pairs of ids of MRPC's dev set, or an empty set if the dev set has a file of its own.

    Microsoft's release of MRPC has no dev file. GLUE lists the pairs of its training file that are held out instead.
    """
    if (folder / "dev.tsv").is_file():
        return set()
    for name in ("dev_ids.tsv", "dev_ids"):
        if (folder / name).is_file():
            return {tuple(line.split("\t")) for line in untrusted.read_text(folder / name).split("\n")}
    return set()


def _find_file(folder: pathlib.Path, split: str) -> pathlib.Path:
    """Returns the file of a split. Raises ValueError if there is none."""
    for name in (f"{split}.tsv", split, f"msr_paraphrase_{split}.txt"):
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"{folder} has no file {split}.tsv; name the folder of the task's released files")
