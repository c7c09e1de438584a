"""Runs a model on texts or rows: logits and predictions."""
