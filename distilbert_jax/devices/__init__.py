"""The device mesh, sharded parameters, several processes as one run, and facts about accelerators."""
