"""What a training draws from: low-noise targets, slices with noise, prepared stores. Needs no TensorFlow."""
