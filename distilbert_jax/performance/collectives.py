"""What devices exchange in a compiled program, read from its text (HLO)."""

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
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_GROUP = re.compile(r"replica_groups=(?:\{\{([\d,]+)\}|\[(\d+),(\d+)\])")


_CHAIN = re.compile(r'chain_id="(\d+)"')
"""TPU programs have one asynchronous operation in several fusions, its start, what runs meanwhile, and its end: all of
them show it, with one number.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
    """One operation of a program. `bytes`: of its whole result on a device, of a reduce-scatter before it is cut."""

    kind: str
    bytes: int
    group_size: int  # devices
    times: int  # that it runs, by the loops around it

    @property
    def sent_bytes(self) -> float:
        """Bytes that each device sends each time, on a ring."""
        share = (self.group_size - 1) / self.group_size
        return self.bytes * share * (2 if self.kind == "all-reduce" else 1)


def parse_collectives(text: str) -> list[Collective]:
    """The collectives among more than one device. An operation on several arrays is one."""
    bodies = dict(_computations(text))
    times = _times(bodies)
    found, chains = [], set[str]()
    for name, lines in bodies.items():
        for line in lines:
            if operation := _COLLECTIVE.search(line):
                if chain := _CHAIN.search(line):
                    if chain[1] in chains:
                        continue
                    chains.add(chain[1])
                result, kind, rest = operation.groups()
                among = _among(rest)
                size = sum(_size(*array) for array in _ARRAY.findall(result))
                if "-start(" in line and result.startswith("("):  # operands stand beside the results
                    size -= sum(_size(*array) for array in _ARRAY.findall(rest.split("),")[0]))
                if kind == "reduce-scatter":
                    size *= among
                if among > 1:
                    found.append(Collective(kind=kind, bytes=size, group_size=among, times=times[name]))
    return found


def _computations(text: str) -> Iterator[tuple[str, list[str]]]:
    name, lines = "", list[str]()
    for line in text.splitlines():
        if opened := _COMPUTATION.match(line):
            name, lines = opened[1], []
        elif line.startswith("}"):
            yield name, lines
        lines.append(line)


def _times(bodies: dict[str, list[str]]) -> dict[str, int]:
    """How often each computation runs in one run of the program; of a loop whose count is not known, once."""
    times = dict.fromkeys(bodies, 0)
    callers = list(bodies)  # the text has what is called before who calls it
    times[callers[-1]] = 1
    for name in reversed(callers):
        for line in bodies[name]:
            loop = _LOOP.search(line)
            trips = _trips(line, bodies.get(loop[1], [])) if loop else 1
            called = _CALLED.findall(line)
            if branches := _BRANCHES.search(line):
                called += re.findall(r"[\w.\-]+", branches[1])
            for one in set(called) & times.keys():
                times[one] += times[name] * (trips if loop and one == loop[2] else 1)
    return times


def _trips(loop: str, condition: list[str]) -> int:
    """As XLA says, or else what its condition compares a counter with, which TPU programs leave it at."""
    if said := _TRIPS.search(loop):
        return int(said[1])
    limits = [int(n) for line in condition for n in _CONSTANT.findall(line)]
    return limits[0] if len(limits) == 1 else 1


def _size(kind: str, shape: str) -> int:
    return DTYPE_BYTES.get(kind, 4) * math.prod(int(n) for n in shape.split(",") if n)


def _among(attributes: str) -> int:
    if not (group := _GROUP.search(attributes)):
        return 1
    return len(group[1].split(",")) if group[1] else int(group[3])
