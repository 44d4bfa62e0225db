"""A task's function as sender and worker see it: its arguments as bytes and back, by its annotations. Pure."""

from __future__ import annotations

import inspect
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.tasks.annotations import Mismatch, convert, hints_of
from wherry.tasks.values import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

PLACED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def module_of(call: Callable[..., Any]) -> str:
    """The name that others import a function's module by, though it may be the program that runs."""
    if call.__module__ != "__main__":
        return call.__module__
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec else Path(getattr(main, "__file__", None) or "main").stem


class BadArguments(TypeError):
    """Arguments do not fit the task: the text names the task and the parameter."""


class Function:
    """A function, and what is known of its parameters.

    Args:
        name: the task's name, for the texts of errors.
        call: the function.

    Attributes:
        is_async: whether it is a coroutine function.
    """

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name = name
        self.call = call
        self.is_async = inspect.iscoroutinefunction(call)
        self._signature = inspect.signature(call)
        self._names, self._required = _positional(self._signature)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return hints_of(self.call)  # when it is first needed: it may name what is defined after the function

    @property
    def unknown(self) -> list[str]:
        """The parameters, and `return`, whose annotations name what cannot be found here: those are not converted."""
        return sorted(inspect.get_annotations(self.call).keys() - self._hints.keys())

    def pack(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, takes: bool = False) -> bytes:
        """Arguments as the body of a message; with `takes`, there is to be one more, in front of them.

        Raises:
            BadArguments: the function would not take them, or one of them cannot travel.
        """
        try:
            if not self._fits(len(args) + takes, kwargs):
                self._signature.bind(*((None,) if takes else ()), *args, **kwargs)
            return pack([list(args), kwargs])
        except TypeError as error:
            raise BadArguments(f"task {self.name!r}: {error}") from error

    def unpack(self, body: bytes, *before: Any) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a message, each as its annotation says; with others, as they travelled, in front of them.

        Raises:
            BadArguments: the body holds none, or they do not fit the function.
        """
        try:
            args, kwargs = unpack(body)
            plain = self._fits(len(before) + len(args), kwargs)
            bound = None if plain else self._signature.bind(*before, *args, **kwargs)
        except (TypeError, ValueError) as error:
            raise BadArguments(f"task {self.name!r}: {error}") from error
        if bound is None:
            return list(map(self._converted, self._names, (*before, *args))), {}
        if self._hints:
            for name, value in bound.arguments.items():
                bound.arguments[name] = self._converted(name, value)
        return list(bound.args), bound.kwargs

    def annotation(self, parameter: int | str) -> Any:
        """What a parameter is annotated with, by its place or its name; Any when that is not known."""
        known = self._signature.parameters
        rest = inspect.Parameter.VAR_POSITIONAL if isinstance(parameter, int) else inspect.Parameter.VAR_KEYWORD
        if isinstance(parameter, int):
            found = [each for each in known.values() if each.kind in PLACED][parameter : parameter + 1]
        else:
            found = [known[parameter]] if parameter in known else []
        found += [each for each in known.values() if each.kind is rest]
        return self._hints.get(found[0].name, Any) if found else Any

    def _fits(self, count: int, kwargs: dict[str, Any]) -> bool:
        """Whether so many positional arguments are plainly what it takes. Of others a bind tells, which costs more."""
        return not kwargs and self._required <= count <= len(self._names)

    def _converted(self, name: str, value: Any) -> Any:
        hint = self._hints.get(name, Any)
        if hint is Any or type(value) is hint:
            return value
        kind = self._signature.parameters[name].kind
        try:
            if kind is inspect.Parameter.VAR_POSITIONAL:
                return tuple(convert(each, hint) for each in value)
            if kind is inspect.Parameter.VAR_KEYWORD:
                return {key: convert(each, hint) for key, each in value.items()}
            return convert(value, hint)
        except Mismatch as error:
            raise BadArguments(f"task {self.name!r}, parameter {name!r}: {error}") from error

    def pack_result(self, value: Any) -> bytes:
        """What it returned, as bytes; none for None.

        Raises:
            Unpackable: it cannot travel.
        """
        return b"" if value is None else pack(value)

    def unpack_result(self, data: bytes) -> Any:
        """What it returned, as its annotation says."""
        return None if not data else convert(unpack(data), self._hints.get("return", Any))


def _positional(signature: inspect.Signature) -> tuple[list[str], int]:
    """The parameters that positional arguments go to, and how many of these there have to be."""
    names: list[str] = []
    required = 0
    for parameter in signature.parameters.values():
        if parameter.kind in PLACED:
            names.append(parameter.name)
            required += parameter.default is inspect.Parameter.empty
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.default is inspect.Parameter.empty:
            return [], 1  # no positional arguments will do
    return names, required
