"""What every network of slices is to Keras."""

from functools import partial
from typing import Any

import keras
from keras import ops

from kpn_tf.ops.hu_input import expect_slices, expect_stacks
from kpn_tf.trained import TRAINED, Trained


class SliceNetwork(keras.Model):
    """A model from slices `(B, H, W, 1)` in HU to denoised slices `(B, H, W, 1)` in HU.

    One of several slices takes `[stack, distances]` instead: `(B, H, W, slices)` in HU and `(B, slices)` in mm.

    A subclass makes its layers, says in `build` how they are built, and calls `_ready` at the end of `__init__`: from
    then on the network is built and called, so that it can be summarised, counted, saved and exported.

    Args:
        slices: Slices that it sees.
        dtype: Dtype policy of the features; the global one if `None`. HU come and go in float32 under each.
        trainable: As in every Keras layer.
        name: As in every Keras layer.
    """

    def __init__(
        self, *, slices: int = 1, dtype: Any = None, trainable: bool = True, name: str | None = None
    ):
        super().__init__(dtype=dtype, trainable=trainable, name=name)
        self.slices = slices

    def _ready(self):
        shapes: Any = [(None, None, None, self.slices), (None, self.slices)]
        symbols: Any = [keras.KerasTensor(shape, "float32") for shape in shapes]
        if self.slices == 1:
            shapes, symbols = shapes[0], symbols[0]
        self.build(shapes)
        self(symbols)

    @classmethod
    def list_presets(cls) -> dict[str, Trained]:
        """The trained weights of this network that come with the package.

        Returns:
            Dict from the name for `from_preset` to `kpn_tf.trained.Trained`: file, hash, cost and training.
        """
        return {name: trained for name, trained in TRAINED.items() if trained.network == cls.__name__}

    @classmethod
    def from_preset(cls, name: str, *, dtype: Any = None, trainable: bool = True) -> Any:
        """The network with trained weights that come with the package.

        Args:
            name: A key of `list_presets`.
            dtype: Dtype policy of the features; the global one if `None`.
            trainable: As in every Keras layer.

        Returns:
            A network, not compiled: ready to denoise, or to be trained further.

        Raises:
            ValueError: If there are no such weights of this network.
        """
        known = cls.list_presets()
        if name not in known:
            raise ValueError(
                f"Expected trained weights of {cls.__name__}: {', '.join(known)}. Received: {name!r}"
            )
        made = keras.saving.load_model(known[name].path, compile=False)
        network = cls.from_config({**made.get_config(), "name": None, "dtype": dtype, "trainable": trainable})
        network.set_weights(made.get_weights())
        return network

    def _expect(self, inputs):
        expect = expect_slices if self.slices == 1 else partial(expect_stacks, depth=self.slices)
        expect(inputs, least=self.least_side)

    # The name of the argument is that of the input in what Keras exports.
    def __call__(self, slice_hu: Any, *args: Any, **kwargs: Any) -> Any:
        self._expect(slice_hu)
        return super().__call__(slice_hu, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.predict`; arrays and tensors are checked before, as when the network is called."""
        if hasattr(x, "shape") or isinstance(x, (list, tuple)):
            self._expect(x)
        return super().predict(x, *args, **kwargs)

    @property
    def input_dtype(self) -> str:
        """`"float32"`, whatever the dtype policy: slices are HU."""
        return "float32"

    @property
    def least_side(self) -> int:
        """Smallest side of a slice in pixels."""
        raise NotImplementedError

    @property
    def untrained(self) -> bool:
        """Whether the weights are as they were made: the offsets that start at zero still are zero."""
        offset = next(weight for weight in self.weights if weight.name in ("bias", "beta"))
        return not ops.convert_to_numpy(offset).any()

    def summary(self, *args: Any, print_fn: Any = None, **kwargs: Any) -> None:
        """As `keras.Model.summary`, and a line where the weights are untrained."""
        super().summary(*args, print_fn=print_fn, **kwargs)
        if self.untrained:
            names = ", ".join(self.list_presets())
            trained = f" {type(self).__name__}.from_preset has trained ones: {names}." if names else ""
            (print_fn or print)(f"Untrained: random weights.{trained}")

    def __repr__(self) -> str:
        try:
            untrained = self.untrained
        except Exception:
            # Weights have no values while the network is made, or traced by a backend.
            untrained = False
        return super().__repr__().removesuffix(">") + (", untrained>" if untrained else ">")

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        of_slices = input_shape if self.slices == 1 else input_shape[0]
        return (*of_slices[:-1], 1)

    def compute_output_spec(self, inputs, training=None):
        of_slices = inputs if self.slices == 1 else inputs[0]
        return keras.KerasTensor((*of_slices.shape[:-1], 1), "float32")
