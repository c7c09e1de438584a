"""Measures ways to build the layers of an encoder: one after the other, or as a loop over stacked parameters.

A third side computes queries, keys and values in one matrix product instead of three. The work is the forward and
backward pass of a BERT-base encoder. Compilation is timed without cached programs. The memory is what the compiled
program states in addition to its inputs and outputs.
"""

import functools
import statistics
from collections.abc import Iterator
from typing import Any

from turns import Side, Table, Turn, seconds, spread, take_turns


def side(*, scanned: bool, fused: bool, layers: int, hidden: int, rows: int, tokens: int) -> Turn:
    """Returns a turn that does one forward and backward pass."""
    import jax
    import jax.numpy as jnp

    from distilbert_jax.models.families import bert
    from distilbert_jax.models.transformer import Block, TransformerConfig, dense

    jax.config.update("jax_enable_compilation_cache", False)
    config = TransformerConfig(
        vocab_size=bert.BASE.vocab_size, hidden_size=hidden, mlp_size=4 * hidden, num_layers=layers, num_heads=12
    )
    x = jax.random.normal(jax.random.key(0), (rows, tokens, hidden))
    attention_mask = jnp.ones((rows, tokens, tokens), bool)
    block = _make_fused_block(Block, dense) if fused else Block
    module = block(config)
    keys = jax.random.split(jax.random.key(1), layers)
    params = jax.vmap(lambda key: module.init(key, x, attention_mask, None)["params"])(keys)

    def layer(x: Any, params: Any) -> Any:
        return module.apply({"params": params}, x, attention_mask, None)[0], None

    traced_once = jax.jit(layer)

    def value(params: Any, x: Any) -> Any:
        if scanned:
            x = jax.lax.scan(layer, x, params)[0]
        else:
            for layer_params in params:
                x = traced_once(x, layer_params)[0]
        return jnp.sum(x**2)

    arguments = params if scanned else [jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(layers)]
    lowered = jax.jit(jax.value_and_grad(value)).lower(arguments, x)
    compiling = seconds(lambda: lowered.compile())
    compiled = lowered.compile()
    temporaries = compiled.memory_analysis().temp_size_in_bytes

    def work() -> None:
        jax.block_until_ready(compiled(arguments, x))

    return lambda: {"seconds": seconds(work), "compiling": compiling, "temporaries": temporaries}


def _make_fused_block(block: Any, dense: Any) -> Any:
    """Returns a layer class that computes q, k and v in one matrix product."""
    import flax.linen as nn

    from distilbert_jax.models.attention import attend
    from distilbert_jax.models.transformer import apply_activation, layer_norm

    class Fused(nn.Module):
        config: Any

        @nn.compact
        def __call__(self, x: Any, attention_mask: Any, keys: Any) -> Any:
            config = self.config
            qkv = dense(config, (3, config.num_heads, config.hidden_size // config.num_heads), name="qkv")(x)
            y = attend(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], attention_mask, keys=keys, dropout=0.0)
            x = layer_norm(config, name="n")(x + dense(config, config.hidden_size, axis=(-2, -1), name="out")(y))
            y = dense(config, config.hidden_size, name="down")(
                apply_activation(config, dense(config, config.mlp_size, name="up")(x))
            )
            return layer_norm(config, name="m")(x + y), None

    return Fused


SIDES = {
    "one after the other": functools.partial(side, scanned=False, fused=False),
    "a loop": functools.partial(side, scanned=True, fused=False),
    "q, k, v in one product": functools.partial(side, scanned=False, fused=True),
}


def tables(
    layers: int = 12, hidden: int = 768, sizes: tuple[tuple[int, int], ...] = ((4, 128), (16, 128)), repeats: int = 9
) -> Iterator[Table]:
    """Yields one table for each size (rows, tokens)."""
    for rows, tokens in sizes:
        settings = {"layers": layers, "hidden": hidden, "rows": rows, "tokens": tokens}
        measurements = take_turns(
            {name: Side(module="layers", name=name, settings=settings) for name in SIDES}, repeats
        )
        medians = {name: statistics.median(figures["seconds"]) for name, figures in measurements.items()}
        baseline = medians["one after the other"]
        yield Table(
            title=f"Layers, {layers} × {hidden}, {rows} × {tokens} tokens, forward and backward",
            header=("side", "seconds (quartiles)", "relative to ours", "compilation, s", "temporary memory, GB"),
            rows=[
                (
                    name,
                    spread(figures["seconds"]),
                    f"{medians[name] / baseline:.2f} ×",
                    f"{figures['compiling'][0]:.1f}",
                    f"{figures['temporaries'][0] / 1e9:.2f}",
                )
                for name, figures in measurements.items()
            ],
        )
