"""The encoder and its parts, the conversion of weights from and to the Hub, and the cost of a training step."""
