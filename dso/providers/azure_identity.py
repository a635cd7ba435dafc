"""azure-identity, without the memory that cryptography takes until a certificate is used.

azure-identity imports cryptography at its top, for certificates only: a native library of 12 MB, of which a frozen
program makes a copy in memory besides. So while it is imported, stand-ins take the place of cryptography's modules,
which import the real ones when something of them is used.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGES = (
    "cryptography",
    "cryptography.hazmat",
    "cryptography.hazmat.primitives",
    "cryptography.hazmat.primitives.asymmetric",
)
_MODULES = (
    "cryptography.x509",
    "cryptography.hazmat.backends",
    "cryptography.hazmat.primitives.hashes",
    "cryptography.hazmat.primitives.serialization",
    "cryptography.hazmat.primitives.asymmetric.padding",
    "cryptography.hazmat.primitives.asymmetric.rsa",
)


class _Name:
    """Stands for a function, or for a class that is asked about instances."""

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._real()(*arguments, **options)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._real())

    def _real(self) -> Any:
        return getattr(import_module(self._module), self._name)


class _Module(ModuleType):
    """Stands for a module: what is taken from it while it does is a `_Name`, and after that the real thing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            return _Name(self.__name__, name)
        return getattr(import_module(self.__name__), name)


@contextmanager
def _without_cryptography() -> Iterator[None]:
    """Have imports of cryptography find stand-ins, unless somebody has imported it already."""
    if "cryptography" in sys.modules:
        yield
        return
    for name in _PACKAGES:
        sys.modules[name] = package = ModuleType(name)
        package.__path__ = []
    for name in _MODULES:
        parent, _, child = name.rpartition(".")
        sys.modules[name] = module = _Module(name)
        setattr(sys.modules[parent], child, module)
    try:
        yield
    finally:
        for name in (*_PACKAGES, *_MODULES):
            del sys.modules[name]


with _without_cryptography():
    from azure import identity

__all__ = ["identity"]
