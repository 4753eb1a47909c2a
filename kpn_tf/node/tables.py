"""Tables of a TOML file -> frozen dataclasses, with a sentence for whatever does not fit."""

import contextlib
import dataclasses
import types
import typing
from pathlib import Path

# What waits longer, or is larger, is a slip of the pen, and more than a clock of the system may take.
_LARGEST = 1e6


# Letters of a value that messages show.
_SHOWN = 200


class MistakesError(ValueError):
    """What does not fit, all of it.

    Args:
        mistakes: Sentences.
    """

    def __init__(self, mistakes):
        super().__init__("; ".join(mistakes))
        self.mistakes = tuple(mistakes)


def check(*requirements, where=""):
    """Refuses what does not hold.

    Args:
        *requirements: Tuples: whether it holds, what is expected, what was received.
        where: Name of the table, for messages.

    Raises:
        MistakesError: If one does not hold, or several.
    """
    where = f"{where}: " if where else ""
    wrong = [
        f"{where}Expected {expected}. Received: {str(received)[:_SHOWN]}"
        for holds, expected, received in requirements
        if not holds
    ]
    if wrong:
        raise MistakesError(wrong)


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
        MistakesError: If keys are unknown or missing, or values of another type or refused by their dataclass.
    """
    if not isinstance(table, dict):
        raise MistakesError([f"Expected a table at {where}. Received: {table!r}"])
    hints, named = typing.get_type_hints(kind), where or "the file"
    mistakes, values = [], {}
    if unknown := sorted(set(table) - set(hints)):
        mistakes.append(f"Expected only {', '.join(hints)} in {named}. Received: {', '.join(unknown)}")
    for name, value in table.items():
        if name in hints:
            with _noted(mistakes):
                values[name] = _value(hints[name], value, _below(where, name), folder)
    required = {
        entry.name
        for entry in dataclasses.fields(kind)
        if entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
    }
    if missing := [name for name in hints if name in required and name not in table]:
        mistakes.append(f"Expected {', '.join(missing)} in {named}. Received: none")
    # With defaults where values do not fit, for what else is wrong with a table; not with the file: what one table
    # says of another would be told as wrong, too.
    if required <= set(values) and (where or not mistakes):
        try:
            made = kind(**values)
        except MistakesError as error:
            mistakes += [f"{where}: {mistake}" if where else mistake for mistake in error.mistakes]
    if mistakes:
        raise MistakesError(mistakes)
    return made


@contextlib.contextmanager
def _noted(mistakes):
    try:
        yield
    except MistakesError as error:
        mistakes += error.mistakes


def _below(where, name):
    return f"{where}.{name}" if where else name


def _value(hint, value, where, folder):
    """A value of the hinted type, or a sentence that says what was there instead."""
    if isinstance(hint, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        # A number, or a list of them.
        hint = kinds[-1 if isinstance(value, list) else 0]
    if typing.get_origin(hint) is tuple:
        kind, values, mistakes = typing.get_args(hint)[0], [], []
        check((isinstance(value, list), f"a list for {where}", repr(value)))
        for index, part in enumerate(value):
            with _noted(mistakes):
                values.append(_value(kind, part, f"{where}[{index}]", folder))
        if mistakes:
            raise MistakesError(mistakes)
        return tuple(values)
    if dataclasses.is_dataclass(hint):
        return built(hint, value, folder, where)
    if hint is Path and isinstance(value, str):
        check((value and "\0" not in value, f"a path for {where}", repr(value)))
        return folder / value
    wanted = {str: "text", Path: "text", float: "a number", int: "a whole number", bool: "true or false"}[
        hint
    ]
    fits = type(value) is hint or (hint is float and type(value) is int)
    check((fits, f"{wanted} for {where}", repr(value)))
    if hint in (int, float):
        # Not "if too large": a NaN must not pass.
        check((abs(value) <= _LARGEST, f"{wanted} up to {_LARGEST:g} for {where}", value))
        return hint(value)
    return value
