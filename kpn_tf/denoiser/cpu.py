"""A network on the CPU: LiteRT's interpreter, any size the file takes."""

from ai_edge_litert.interpreter import Interpreter


class Cpu:
    """A network as a callable on the CPU: `(1, H, W, 1)` HU to the same, or a stack and its distances.

    Args:
        path: The .tflite.
        threads: Threads to compute with.

    Raises:
        ValueError: If LiteRT cannot read the file, or, in a call, not run it on this shape.
        RuntimeError: If LiteRT cannot run the network.
    """

    def __init__(self, path, threads):
        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        inputs = self._interpreter.get_input_details()
        # Of a stack's network the distances are the input without rows and columns.
        self._inputs = [one["index"] for one in sorted(inputs, key=lambda one: -len(one["shape"]))]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._shape = None

    def __call__(self, batch_hu, *distances_mm):
        """Runs it.

        Args:
            batch_hu: float32 `(1, H, W, S)` in HU.
            distances_mm: Where `S` is above 1, float32 `(1, S)`.

        Returns:
            float32 `(1, H, W, 1)` in HU.
        """
        if batch_hu.shape != self._shape:
            self._interpreter.resize_tensor_input(self._inputs[0], batch_hu.shape, strict=True)
            self._interpreter.allocate_tensors()
            self._shape = batch_hu.shape
        for index, values in zip(self._inputs, (batch_hu, *distances_mm), strict=True):
            self._interpreter.set_tensor(index, values)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)
