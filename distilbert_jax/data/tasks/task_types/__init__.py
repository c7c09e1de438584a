"""Task types, one module each: how examples are encoded and how logits become predictions and metrics."""
