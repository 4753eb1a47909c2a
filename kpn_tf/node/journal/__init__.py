"""The node's memory: which slices came, what became of their series, what is still to be sent."""
