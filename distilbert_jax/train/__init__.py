"""The pure training step, and the loops that run it for distillation, fine-tuning and replay."""
