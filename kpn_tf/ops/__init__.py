"""The mathematics of the method as pure functions on tensors, on any Keras backend."""
