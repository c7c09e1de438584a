"""Fine-tunes a model on a task, once for each seed."""
