"""What is public is annotated; `make test` has mypy look at it."""

import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The packages whose `__all__` is the public API: docs/stability.md.
PUBLIC = (
    "kpn_tf",
    "kpn_tf.layers",
    "kpn_tf.losses",
    "kpn_tf.metrics",
    "kpn_tf.networks",
    "kpn_tf.training",
    "export",
)

# Of the methods with underscores, those that a user's own code calls.
CALLED = ("__init__", "__call__", "__getitem__", "__len__")


def functions_of(package):
    """The functions, constructors and public methods that a package's public names stand for."""
    for name in importlib.import_module(package).__all__:
        thing = getattr(importlib.import_module(package), name)
        if inspect.isfunction(thing):
            yield name, thing
        elif inspect.isclass(thing):
            for method, member in vars(thing).items():
                function = (
                    member.fget if isinstance(member, property) else getattr(member, "__func__", member)
                )
                if inspect.isfunction(function) and (method in CALLED or not method.startswith("_")):
                    yield f"{name}.{method}", inspect.unwrap(function)


@pytest.mark.parametrize("package", PUBLIC)
def test_every_argument_and_result_of_a_public_name_is_annotated(package):
    bare = []
    for name, function in functions_of(package):
        signature = inspect.signature(function)
        arguments = [p for n, p in signature.parameters.items() if n not in ("self", "cls")]
        complete = all(p.annotation is not p.empty for p in arguments)
        result = name.endswith("__init__") or signature.return_annotation is not signature.empty
        if not (complete and result):
            bare.append(name)
    assert bare == []


def test_wheels_say_that_they_are_typed():
    assert all((ROOT / package / "py.typed").is_file() for package in ("kpn_tf", "baselines", "export"))
