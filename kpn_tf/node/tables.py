"""Tables of a TOML file -> frozen dataclasses, with a sentence for whatever does not fit."""

import dataclasses
import types
import typing
from pathlib import Path


def built(kind, table, folder, where=""):
    """Builds a frozen dataclass from a table whose keys are its fields, and so for the tables in it.

    Args:
        kind: The dataclass. Its fields are text, numbers, switches, paths, tuples of one of these, or dataclasses.
        table: As `tomllib` returns it.
        folder: Where relative paths start.
        where: Name of the table, for messages.

    Returns:
        The dataclass.

    Raises:
        ValueError: If a key is unknown or missing, or a value of another type or refused by its dataclass.
    """
    if not isinstance(table, dict):
        raise ValueError(f"Expected a table at {where}. Received: {table!r}")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(table) - set(hints))
    if unknown:
        raise ValueError(
            f"Expected only {', '.join(hints)} in {where or 'the file'}. Received: {', '.join(unknown)}"
        )
    missing = [
        entry.name
        for entry in dataclasses.fields(kind)
        if entry.name not in table
        and entry.default is dataclasses.MISSING
        and entry.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"Expected {', '.join(missing)} in {where or 'the file'}. Received: none")
    values = {name: _value(hints[name], value, _below(where, name), folder) for name, value in table.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from error


def _below(where, name):
    return f"{where}.{name}" if where else name


def _value(hint, value, where, folder):
    """A value of the hinted type, or a sentence that says what was there instead."""
    if isinstance(hint, types.UnionType):
        hint = next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
    if typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        if not isinstance(value, list):
            raise ValueError(f"Expected a list for {where}. Received: {value!r}")
        return tuple(_value(kind, part, f"{where}[{index}]", folder) for index, part in enumerate(value))
    if dataclasses.is_dataclass(hint):
        return built(hint, value, folder, where)
    if hint is Path and isinstance(value, str):
        return folder / value
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        wanted = "text" if hint in (str, Path) else hint.__name__
        raise ValueError(f"Expected {wanted} for {where}. Received: {value!r}")
    return value
