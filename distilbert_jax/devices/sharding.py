"""Parameters cut over the mesh, and put together where they are used.

Along `fsdp` by hand: a student comes together once an update and its gradient is added up once an update, each device
keeping its part; a teacher comes together in every micro-batch, as its layers are reached, and goes again. Along
`tensor` by XLA, which finds from the cut of the parameters what each device multiplies (Xu et al., 2021).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from distilbert_jax.devices.mesh import DATA, FSDP, ROW_AXES, TENSOR, AnyMesh
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.types import Batch, PackedRows

SHARDING_RULES = {
    "words/embedding": P(TENSOR, FSDP),
    "positions/embedding": P(None, FSDP),
    "query/kernel": P(FSDP, TENSOR, None),
    "key/kernel": P(FSDP, TENSOR, None),
    "value/kernel": P(FSDP, TENSOR, None),
    "query/bias": P(TENSOR, None),
    "key/bias": P(TENSOR, None),
    "value/bias": P(TENSOR, None),
    "out/kernel": P(TENSOR, None, FSDP),
    "up/kernel": P(FSDP, TENSOR),
    "up/bias": P(TENSOR),
    "down/kernel": P(TENSOR, FSDP),
    "transform/kernel": P(FSDP, None),
}
"""By the end of a parameter's path, which is that of its moments too. What has no rule is small, and whole
everywhere.
"""


def check_divisible(config: TransformerConfig, mesh: AnyMesh, *, role: str) -> None:
    """ValueError where devices cannot share this model's layers."""
    for axis, name, size in ((FSDP, "hidden_size", config.hidden_size), (TENSOR, "num_heads", config.num_heads)):
        if size % mesh.shape[axis]:
            raise ValueError(f"{axis}={mesh.shape[axis]} does not divide the {role}'s {name}, {size}")


def partition_specs(tree: Any, mesh: AnyMesh) -> Any:
    """Of every parameter of a tree, or of what an optimizer keeps of it: the axes that it is cut over. An axis that
    does not divide by its devices stays whole: 30,522 words by four, say.
    """

    def of_leaf(path: Any, x: Any) -> P:
        rule = SHARDING_RULES.get(jax.tree_util.keystr(path[-2:], simple=True, separator="/"), P())
        fits = len(rule) == len(x.shape)
        divides = lambda axis, size: axis is not None and mesh.shape[axis] > 1 and size % mesh.shape[axis] == 0
        return P(*(a if divides(a, n) else None for a, n in zip(rule, x.shape, strict=True))) if fits else P()

    return jax.tree_util.tree_map_with_path(of_leaf, tree)


def shardings(tree: Any, mesh: Mesh) -> Any:
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), partition_specs(tree, mesh))


@dataclasses.dataclass(frozen=True)
class ShardedTree:
    """A tree on a device, which has a part of those leaves whose spec says FSDP."""

    parts: Any
    specs: Any

    def gather(self) -> Any:
        gather = lambda x, spec: jax.lax.all_gather(x, FSDP, axis=spec.index(FSDP), tiled=True) if FSDP in spec else x
        return jax.tree.map(gather, self.parts, self.specs)

    def gather_with(self, x: Any) -> tuple[Any, Any]:
        """(the whole tree, x), put together where `x` comes in, inside of a loop: XLA would do it before the loop, and
        hold the whole all along.
        """
        if not any(FSDP in spec for spec in jax.tree.leaves(self.specs)):
            return self.parts, x
        parts, x = jax.lax.optimization_barrier((self.parts, x))
        return ShardedTree(parts, self.specs).gather(), x

    def reduce_scatter(self, tree: Any) -> Any:
        """Σ over the devices of a tree like the whole one, of which this device keeps its part."""

        def sum_of(x: jax.Array, spec: P) -> jax.Array:
            if FSDP not in spec:
                return sum_over_devices(x)
            return _sum(jax.lax.psum_scatter(x, FSDP, scatter_dimension=spec.index(FSDP), tiled=True), (DATA,))

        return jax.tree.map(sum_of, tree, self.specs)


def sum_over_devices(x: Any) -> Any:
    """Σ over the devices that rows fall on."""
    return _sum(x, ROW_AXES)


def _sum(x: Any, axes: tuple[str, ...]) -> Any:
    """One device is spared a copy of every gradient."""
    axes = tuple(axis for axis in axes if jax.lax.axis_size(axis) > 1)
    return jax.lax.psum(x, axes) if axes else x


def shard_map_rows(
    f: Callable[..., Any], mesh: Mesh, *, out: Callable[..., Any] = lambda *_: P()
) -> Callable[..., Any]:
    """Returns run(rows, *trees), which calls f(its rows, *Cut of each tree) on each device; rows are
    [accumulation, b, …]. `out` gives the specs of the result from those of the trees; else it is the same everywhere.
    """

    def run(rows: PackedRows | Batch, *trees: Any) -> Any:
        by_hand = [jax.tree.map(_only_fsdp, partition_specs(tree, mesh)) for tree in trees]
        of_device = lambda rows, *parts: f(rows, *map(ShardedTree, parts, by_hand))
        mapped = jax.shard_map(
            of_device,
            mesh=mesh,
            in_specs=(P(None, ROW_AXES), *by_hand),
            out_specs=out(*by_hand),
            axis_names={*ROW_AXES} if mesh.shape[TENSOR] > 1 else {*ROW_AXES, TENSOR},
            check_vma=False,
        )
        return mapped(rows, *trees)

    return run


def _only_fsdp(spec: P) -> P:
    return P(*(axis if axis == FSDP else None for axis in spec))
