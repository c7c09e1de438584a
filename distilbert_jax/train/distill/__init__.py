"""Runs distillation: loads models, sets up the step, trains, evaluates held-out rows and exports."""
