"""From text to batches: sources of text, tokenizers, shards, masking and fine-tuning tasks."""
