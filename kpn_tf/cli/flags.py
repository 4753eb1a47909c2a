"""Command-line flags from the fields of a configuration dataclass, and the dataclass back from the flags."""

import argparse
import dataclasses
import sys
import types
import typing
from pathlib import Path

from kpn_tf.cli import kinds


def add_arguments(parser, config_class, words=()):
    """Adds one argument per field: positional without a default, a switch for booleans, else `--name VALUE`.

    What is annotated as `tuple[kind, ...]` takes several values; an option of that kind may be given several times.

    A field's metadata may hold `help`, and `kind`: the function from the typed word to the value where the annotation
    is not enough.
    `unless` names options of which any takes the place of an argument. `former` names the options that an argument or
    option replaced in 0.2: they still work, and say what replaced them, until 0.3. `only_with` maps such an option to
    those of which one must be given too.

    Args:
        parser: An `argparse.ArgumentParser`.
        config_class: A dataclass.
        words: The words to be parsed: they decide about `unless` and `former`.
    """
    given = {word.partition("=")[0] for word in words}
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        name, text = field.name, field.metadata.get("help")
        kind = field.metadata.get("kind") or _plain(hints[name])
        kind = kinds.path if kind is Path else kind
        for option in given.intersection(field.metadata.get("former", ())):
            parser.add_argument(option, dest=name, type=kind, action=_Former, help=argparse.SUPPRESS)
            needed = field.metadata.get("only_with", {}).get(option, ())
            if needed and given.isdisjoint(needed):
                parser.error(f"expected {' or '.join(needed)} with {option}, received {option} alone")
        if not given.isdisjoint((*field.metadata.get("former", ()), *field.metadata.get("unless", ()))):
            continue
        if field.default is dataclasses.MISSING or "unless" in field.metadata:
            several = {"nargs": "+"} if _repeats(hints[name]) else {}
            parser.add_argument(name, type=kind, metavar=name.upper(), help=text, **several)
        elif kind is bool:
            parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)
        else:
            # argparse would add to a default list instead of replacing it: `build` puts the default in.
            several = {"action": "extend", "nargs": "+"} if _repeats(hints[name]) else {}
            parser.add_argument(f"--{name.replace('_', '-')}", dest=name, type=kind, help=text, **several)


def build(config_class, namespace):
    """Builds the configuration from parsed arguments."""
    given = {}
    for field in dataclasses.fields(config_class):
        value = getattr(namespace, field.name, None)
        if value is not None:
            given[field.name] = tuple(value) if isinstance(value, list) else value
    return config_class(**given)


class _Former(argparse.Action):
    """An option that is written in another way now."""

    def __call__(self, parser, namespace, values, option_string=None):
        from kpn_tf.console import say

        say(f"{parser.prog}: {option_string} goes in 0.3; {parser.prog} --help has its new form", sys.stderr)
        setattr(namespace, self.dest, values)


def _plain(hint):
    """`int | None` -> `int`, `tuple[int, ...]` -> `int`; other types as they are."""
    if _repeats(hint):
        return typing.get_args(hint)[0]
    if isinstance(hint, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
    return hint


def _repeats(hint):
    return typing.get_origin(hint) is tuple
