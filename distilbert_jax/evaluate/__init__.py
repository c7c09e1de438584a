"""Scores of models on tasks, and how much of its teacher's scores a student retains."""
