"""What holds for the value classes of every package."""

import dataclasses
import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest


def value_classes(package: str) -> Iterator[type]:
    """The dataclasses that the modules of a package define."""
    for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
        for found in vars(import_module(module.name)).values():
            if isinstance(found, type) and dataclasses.is_dataclass(found) and found.__module__ == module.name:
                yield found


def assert_values(package: str) -> None:
    """Every value is immutable, and those with arrays, which have no single equality, are compared by identity."""
    for kind in value_classes(package):
        fields = dataclasses.fields(kind)
        value: object = object.__new__(kind)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, fields[0].name, None)
        if any("ndarray" in repr(field.type) for field in fields):
            assert "__eq__" not in vars(kind), f"{kind.__name__} compares arrays"
