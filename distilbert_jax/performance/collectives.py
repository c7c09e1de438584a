"""Finds what devices send to each other in a compiled program, by reading its HLO text."""

import dataclasses
import math
import re
from collections.abc import Iterator

COLLECTIVE_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
DTYPE_BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "bf16": 2,
    "f16": 2,
    "s16": 2,
    "u16": 2,
    "f32": 4,
    "s32": 4,
    "u32": 4,
    "f64": 8,
}

_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(COLLECTIVE_KINDS)})(?:-start)?\((.*)")
_ARRAY = re.compile(r"\b([a-z]+\d+)\[([\d,]*)\]")
_LOOP = re.compile(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_CONSTANT = re.compile(r"= s32\[\]\S* constant\((\d+)\)")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_GROUP = re.compile(r"replica_groups=(?:\{\{([\d,]+)\}|\[(\d+),(\d+)\])")

_CHAIN = re.compile(r'chain_id="(\d+)"')
"""In TPU programs an asynchronous collective is part of several fusions: its start, what runs meanwhile, and its end.
All of them contain its text, with one chain id.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
    """One collective operation of a program.

    Attributes:
        kind: one of COLLECTIVE_KINDS.
        bytes: the size of its full array: of the result on each device, or of the operand for a reduce-scatter.
        group_size: the number of devices that exchange data with each other.
        times: how often it runs in one run of the program.
    """

    kind: str
    bytes: int
    group_size: int
    times: int

    @property
    def sent_bytes(self) -> float:
        """The bytes that each device sends each time, if the devices form a ring."""
        fraction = (self.group_size - 1) / self.group_size
        return self.bytes * fraction * (2 if self.kind == "all-reduce" else 1)


def parse_collectives(text: str) -> list[Collective]:
    """Returns the collectives of a program between more than one device.

    An operation on several arrays is one collective.

    Args:
        text: the HLO text of the compiled program.
    """
    computations = dict(_split_computations(text))
    run_counts = _count_runs(computations)
    collectives, seen_chains = [], set[str]()
    for name, lines in computations.items():
        for line in lines:
            if not (operation := _COLLECTIVE.search(line)):
                continue
            if chain := _CHAIN.search(line):
                if chain[1] in seen_chains:
                    continue
                seen_chains.add(chain[1])
            result, kind, rest = operation.groups()
            group_size = _group_size(rest)
            size = sum(_array_bytes(*array) for array in _ARRAY.findall(result))
            if "-start(" in line and result.startswith("("):
                # The result of an asynchronous start holds the operands too.
                size -= sum(_array_bytes(*array) for array in _ARRAY.findall(rest.split("),")[0]))
            if kind == "reduce-scatter":
                size *= group_size
            if group_size > 1:
                collectives.append(Collective(kind=kind, bytes=size, group_size=group_size, times=run_counts[name]))
    return collectives


def _split_computations(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yields the name and the lines of each computation of a program."""
    name, lines = "", list[str]()
    for line in text.splitlines():
        if opened := _COMPUTATION.match(line):
            name, lines = opened[1], []
        elif line.startswith("}"):
            yield name, lines
        lines.append(line)


def _count_runs(computations: dict[str, list[str]]) -> dict[str, int]:
    """Returns how often each computation runs in one run of the program.

    The body of a loop whose number of iterations is unknown counts as one run.
    """
    counts = dict.fromkeys(computations, 0)
    names = list(computations)
    counts[names[-1]] = 1  # the entry computation is the last
    # A computation is written before its callers, so in reverse every count is final when it is used.
    for name in reversed(names):
        for line in computations[name]:
            loop = _LOOP.search(line)
            trip_count = _trip_count(line, computations.get(loop[1], [])) if loop else 1
            called = _CALLED.findall(line)
            if branches := _BRANCHES.search(line):
                called += re.findall(r"[\w.\-]+", branches[1])
            for callee in set(called) & counts.keys():
                counts[callee] += counts[name] * (trip_count if loop and callee == loop[2] else 1)
    return counts


def _trip_count(loop: str, condition: list[str]) -> int:
    """Returns the number of iterations of a loop, or 1 if it is unknown.

    XLA states it, except in TPU programs. There it is the constant that the condition compares a counter with.

    Args:
        loop: the line of the loop.
        condition: the lines of the computation of its condition.
    """
    if stated := _TRIP_COUNT.search(loop):
        return int(stated[1])
    limits = [int(n) for line in condition for n in _CONSTANT.findall(line)]
    return limits[0] if len(limits) == 1 else 1


def _array_bytes(dtype: str, shape: str) -> int:
    """Returns the bytes of an array, such as of "f32" and "8,4"."""
    return DTYPE_BYTES.get(dtype, 4) * math.prod(int(n) for n in shape.split(",") if n)


def _group_size(attributes: str) -> int:
    """Returns the number of devices in a group of a collective, or 1 if its attributes name no groups."""
    if not (group := _GROUP.search(attributes)):
        return 1
    return len(group[1].split(",")) if group[1] else int(group[3])
