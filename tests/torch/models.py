"""transformers' models with every tensor random, and the same text for both sides."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is installed on Python 3.11 only")
transformers = pytest.importorskip("transformers")

from distilbert_jax.data.masking import compute_positions
from distilbert_jax.hub import smoke
from distilbert_jax.types import Batch

SHAPES = {
    "bert": dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48, type_vocab_size=2),
    "distilbert": dict(dim=24, n_layers=3, n_heads=4, hidden_dim=48),
}
EVERY = dict(rtol=1e-5, atol=5e-6)


def random_model(family, auto=transformers.AutoModelForMaskedLM, **changes):
    """In evaluation mode. Small embeddings, so that a wrong LayerNorm ε is seen; large weights, so that a wrong GELU
    is.
    """
    config = transformers.AutoConfig.for_model(
        family,
        vocab_size=smoke.make_tiny_tokenizer().vocab_size,
        max_position_embeddings=64,
        **{**SHAPES[family], **changes},
    )
    model = auto.from_config(config, attn_implementation="eager").eval()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.03 if "embeddings" in name and "LayerNorm" not in name else 0.2
            parameter.copy_(
                torch.randn(parameter.shape, generator=random) * scale
                + ("LayerNorm.weight" in name or "layer_norm.weight" in name)
            )
    return model


def has_token_types(model):
    """Whether a model of transformers distinguishes the two texts of a pair."""
    return bool(getattr(model.config, "type_vocab_size", 0))


def write(model, folder):
    """Model and tokenizer as a Hub folder."""
    model.save_pretrained(folder)
    tokenizer = smoke.make_tiny_tokenizer()
    tokenizer.backend.save(str(folder / "tokenizer.json"))
    return folder


def text(*, b=3, t=20, pairs=False):
    """(ids, mask, token types): rows of different lengths."""
    random = np.random.default_rng(0)
    ids = random.integers(5, smoke.make_tiny_tokenizer().vocab_size, (b, t))
    mask = (np.arange(t)[None] < np.array([t, t - 7, 5])[:b, None]).astype(int)
    types = (np.arange(t)[None] >= 9) * mask if pairs else np.zeros_like(ids)
    return ids * mask, mask, types


def batch_of(ids, mask, types):
    import jax.numpy as jnp

    ids, mask = jnp.asarray(ids), jnp.asarray(mask)
    every = jnp.broadcast_to(jnp.arange(ids.shape[1])[None], ids.shape)
    ones = jnp.ones(ids.shape)
    return Batch(
        row_ids=ids[:, 0],
        epochs=ids[:, 0],
        tokens=ids,
        segment_ids=mask,
        positions=compute_positions(mask),
        token_types=jnp.asarray(types),
        predict_positions=every,
        prediction_weights=ones,
        label_weights=ones,
        labels=ids,
    )
