"""Predicts what a run needs before it starts, and measures time and memory."""
