"""What every network of slices is to Keras."""

from typing import Any

import keras
from keras import ops

from kpn_tf.ops.hu_input import expect_slices
from kpn_tf.trained import TRAINED, Trained


class SliceNetwork(keras.Model):
    """A model from slices `(B, H, W, slices)` in HU to denoised slices `(B, H, W, 1)` in HU.

    A subclass makes its layers, says in `build` how they are built, and calls `_ready` at the end of `__init__`: from
    then on the network is built and called, so that it can be summarised, counted, saved and exported.

    Args:
        slices: Slices in the channel axis of the input.
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
        shape = (None, None, None, self.slices)
        self.build(shape)
        self(keras.KerasTensor(shape, "float32"))

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

    def __call__(self, slice_hu, *args, **kwargs):
        expect_slices(slice_hu, depth=self.slices, least=self.least_side)
        return super().__call__(slice_hu, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.predict`; an array or tensor is checked before, as when the network is called."""
        if hasattr(x, "shape"):
            expect_slices(x, depth=self.slices, least=self.least_side)
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
            trained = f"{type(self).__name__}.from_preset has trained ones: {', '.join(self.list_presets())}"
            (print_fn or print)(f"Untrained: random weights. {trained}.")

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        return (*input_shape[:-1], 1)

    def compute_output_spec(self, slice_hu, training=None):
        return keras.KerasTensor(self.compute_output_shape(slice_hu.shape), "float32")
