"""GLUE (Wang et al., 2019): nine tasks and the diagnostic set, from their files as they were released.

The files are no CSV: a tab ends a field, quotes mean nothing, CoLA has no header, MRPC starts with a byte-order mark.
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
    """One task: its folder, its columns by name, its labels in the benchmark's order, and what it is scored by.

    `columns` are the text, the second text if there is one, and the label. A task without labels is a regression.
    """

    folder: str
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[MetricFunction, ...]
    dev: tuple[str, ...] = ("dev",)  # the splits it is scored on
    header: tuple[str, ...] | None = None  # of files that have none
    broken_rows: bool = False  # whether the released files have some, which all readers leave out

    def read(self, folder: pathlib.Path, split: str) -> list[Example]:
        """The examples of a split, such as "train" or "dev"; without labels where the file has none (test).

        Raises ValueError, naming file and line, for a missing file, unequal columns or a label that is none.
        """
        ids = _dev_ids(folder)
        path = _find(folder, "train" if ids and split == "dev" else split)
        rows = list(self._rows(path))
        if ids and split in ("train", "dev"):
            rows = [
                (line, row) for line, row in rows if ((row.get("#1 ID"), row.get("#2 ID")) in ids) == (split == "dev")
            ]
        if not rows:
            raise ValueError(f"{path}: no examples")
        *texts, label = self.columns
        missing = [name for name in texts if name not in rows[0][1]]
        if missing:
            raise ValueError(f"{path}: no column {missing[0]!r}, only {', '.join(rows[0][1])}")
        return [
            Example(
                id=str(number),
                texts=tuple(row[name] for name in texts),
                label=self._label(row[label], path, line) if label in row else None,
            )
            for number, (line, row) in enumerate(rows)
        ]

    @property
    def make_task_type(self) -> Classification:
        """What is asked, and what it is scored by."""
        return Classification(labels=self.labels, metrics=self.metrics)

    def _rows(self, path: pathlib.Path) -> Iterator[tuple[int, dict[str, str]]]:
        """(line number, {column: text})."""
        lines = untrusted.read_text(path).split("\n")  # a line may hold other line breaks of Unicode
        header = self.header
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            cells = line.rstrip("\r").split("\t")
            if header is None or (number == 1 and set(cells) >= set(self.columns[:-1])):
                header = tuple(cells)
            elif len(cells) == len(header):
                yield number, dict(zip(header, cells, strict=True))
            elif not self.broken_rows:
                raise ValueError(f"{path}, line {number}: {len(cells)} columns, the header has {len(header)}")

    def _label(self, text: str, path: pathlib.Path, line: int) -> int | float:
        names = self.labels if text in self.labels else [str(i) for i in range(len(self.labels))]
        try:
            return names.index(text) if self.labels else parse_finite(text)
        except ValueError:
            wanted = f"one of {', '.join(self.labels)}" if self.labels else "a number"
            raise ValueError(f"{path}, line {line}: the label {text!r} is not {wanted}") from None


_ENTAILMENT = ("entailment", "not_entailment")
_THREE = ("entailment", "neutral", "contradiction")
_SENTENCES = ("sentence1", "sentence2")
_ACCURACY_F1 = (metrics.accuracy, metrics.f1)

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
        metrics=_ACCURACY_F1,
    ),
    "qqp": GlueTask(
        folder="QQP",
        columns=("question1", "question2", "is_duplicate"),
        labels=("not_duplicate", "duplicate"),
        metrics=_ACCURACY_F1,
        broken_rows=True,
    ),
    "stsb": GlueTask(
        folder="STS-B",
        columns=(*_SENTENCES, "score"),
        labels=(),
        metrics=(metrics.pearson_correlation, metrics.spearman_correlation),
    ),
    "mnli": GlueTask(
        folder="MNLI",
        columns=(*_SENTENCES, "gold_label"),
        labels=_THREE,
        metrics=(metrics.accuracy,),
        dev=("dev_matched", "dev_mismatched"),
    ),
    "qnli": GlueTask(
        folder="QNLI", columns=("question", "sentence", "label"), labels=_ENTAILMENT, metrics=(metrics.accuracy,)
    ),
    "rte": GlueTask(folder="RTE", columns=(*_SENTENCES, "label"), labels=_ENTAILMENT, metrics=(metrics.accuracy,)),
    "wnli": GlueTask(
        folder="WNLI",
        columns=(*_SENTENCES, "label"),
        labels=("not_entailment", "entailment"),
        metrics=(metrics.accuracy,),
    ),
    "ax": GlueTask(
        folder="AX", columns=(*_SENTENCES, "label"), labels=_THREE, metrics=(metrics.matthews_correlation,), dev=("ax",)
    ),
}


def macro(headlines: dict[str, float], *, wnli: bool) -> float:
    """The mean of the nine tasks' headlines, or of the eight without WNLI. ValueError, naming it, where one is missing:
    means over other tasks are other numbers.
    """
    wanted = [name for name in TASKS if name != "ax" and (wnli or name != "wnli")]
    missing = [name for name in wanted if name not in headlines]
    if missing:
        raise ValueError(f"no macro average without {', '.join(missing)}")
    return sum(headlines[name] for name in wanted) / len(wanted)


def _dev_ids(folder: pathlib.Path) -> set[tuple[str | None, ...]]:
    """MRPC as Microsoft released it: no dev file, but a list of the pairs of the training file that are held out."""
    if (folder / "dev.tsv").is_file():
        return set()
    for name in ("dev_ids.tsv", "dev_ids"):
        if (folder / name).is_file():
            return {tuple(line.split("\t")) for line in untrusted.read_text(folder / name).splitlines()}
    return set()


def _find(folder: pathlib.Path, split: str) -> pathlib.Path:
    for name in (f"{split}.tsv", split, f"msr_paraphrase_{split}.txt"):
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"{folder}: no {split}.tsv")
