"""The process that runs the denoising networks, and the node's side of it."""
