"""What the configuration can choose by name, and how more of it is registered, in the tree or outside.

A :class:`Registry` holds declarations: a name, where the class is, and its settings. All that knows the names (the
validation, the command line's help, the choices of a sweep, the parameters on Kubeflow) asks the registry. Nothing here
loads TensorFlow: a class that is declared as ``"module:Class"`` is imported when it is built.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import (
    AfterValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from ctr.models.errors import CtrError
from ctr.models.section import Section

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


class RegistrationError(CtrError, ValueError):
    """What cannot be registered, found or imported; the message says what and why."""


@dataclass(frozen=True)
class Declaration:
    """Something that the configuration can choose."""

    name: str
    """In the configuration."""
    target: str | Callable[..., Any]
    """What builds it, or ``"module:name"`` of that, which is imported when it is built."""
    about: str = ""
    """What it is, in a line; the command line's help and the tables of the docs show it."""
    settings: Mapping[str, type[Section]] = field(default_factory=dict)
    """Its sections of the configuration by name: classes that derive from :class:`ctr.models.section.Section` with a
    default for each field. Several declarations may share a section."""
    flat: tuple[type[Section], ...] = ()
    """Likewise, but their fields stand beside the name itself, as ``sampler.alpha`` does, and not in a section."""
    check: Callable[[Any], None] | None = None
    """Called with the whole section that names it (``model`` or ``sampler``) once that is read; raises ValueError for
    what cannot be had."""

    @property
    def reads(self) -> dict[str, type[Section]]:
        """What stands beside its name, sections and flat settings -> the class that declares it."""
        return {**self.settings, **{key: section for section in self.flat for key in section.model_fields}}

    @property
    def path(self) -> str:
        """Dotted name of what builds it."""
        return _path(self.target).replace(":", ".")

    def load(self) -> Any:
        """What builds it.

        Raises:
          RegistrationError: if it is not where it was declared to be.
        """
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ModuleNotFoundError, AttributeError) as error:
            raise RegistrationError(f"{self.name} is declared as {self.target}: {error}") from error


D = TypeVar("D", bound=Declaration)
S = TypeVar("S", bound=Section)
T = TypeVar("T")


class Registry(Generic[D]):
    """Declarations by name, in the order in which they were made.

    Args:
      kind: of what is declared, one word.
      base: ``"package.module:Class"`` of what each target must give; imported when one is built.
      declaration: the class of the declarations.
    """

    def __init__(self, kind: str, base: str, declaration: type[D]) -> None:
        self.kind = kind
        self._base = base
        self._declaration = declaration
        self._declarations: dict[str, D] = {}

    def register(self, name: str, target: str | Callable[..., Any] | None = None, **rest: Any) -> Callable[[T], T]:
        """Makes something one that the configuration can choose.

        Call it with a target, or set it above a class as a decorator. A module that only declares, with a target as
        text, keeps the reading of a configuration free of TensorFlow; a decorated class comes with whatever its module
        imports.

        Args:
          name: in the configuration; small letters, digits and underscores.
          target: see :class:`Declaration`; left out by a decorator.
          **rest: further attributes of the declaration.

        Raises:
          RegistrationError: if the name, the target or a setting is taken or impossible.
        """

        def declare(decorated: Any) -> Any:
            self._declare(self._declaration(name, decorated, **rest))
            return decorated

        if target is not None:
            declare(target)
        return declare

    def _declare(self, declaration: D) -> None:
        """Adds one; the same one again changes nothing."""
        name, target = declaration.name, declaration.target
        what = f"{self.kind} {name!r}"
        if not _NAME.fullmatch(name):
            raise RegistrationError(f"{what}: give a name of small letters, digits and underscores, a letter first")
        if isinstance(target, str) and not all(
            map(_MODULE.fullmatch, [*target.split(":", 1), target.partition(":")[2]])
        ):
            raise RegistrationError(f"{what}: {target!r} is not of the form 'package.module:Class'")
        if isinstance(target, str) and importlib.util.find_spec(target.partition(":")[0]) is None:
            raise RegistrationError(f"{what}: there is no module {target.partition(':')[0]}")
        known = self._declarations.get(name)
        if known is not None and known.path != declaration.path:
            raise RegistrationError(f"{what} is registered already: {known.path}; choose another name")
        taken = self.reads()
        for key, section in declaration.reads.items():
            if not _NAME.fullmatch(key):
                raise RegistrationError(f"{what}: {key!r} is no name of a section")
            if not (isinstance(section, type) and issubclass(section, Section)):
                raise RegistrationError(
                    f"{what}: section {key!r} must be a class that derives from ctr.models.section.Section"
                )
            same = [k for k, s in taken.items() if _path(s) == _path(section)]
            if key not in same and (other := next(iter(same), key if key in taken else None)) is not None:
                raise RegistrationError(f"{what}: section {other!r} is registered already, as {_path(taken[other])}")
        self._declarations[name] = declaration

    def __iter__(self) -> Iterator[str]:
        """The names, the built-in ones first."""
        return iter(self._declarations)

    def __getitem__(self, name: str) -> D:
        """One declaration.

        Raises:
          RegistrationError: if there is none, with the names that there are.
        """
        if name not in self._declarations:
            raise RegistrationError(f"no {self.kind} {name!r} is registered; there are {', '.join(self)}")
        return self._declarations[name]

    def build(self, name: str, *arguments: Any, **named: Any) -> Any:
        """What the target of a name makes of these arguments.

        Raises:
          RegistrationError: if there is no such name, its target is not there, or it gives something else.
        """
        made = self[name].load()(*arguments, **named)
        base = Declaration(self.kind, self._base).load()
        if not isinstance(made, base):
            raise RegistrationError(
                f"{self.kind} {name}: {type(made).__name__} does not derive from {_path(base).replace(':', '.')}"
            )
        return made

    def described(self) -> str:
        """A line for each: its name, and what it is."""
        width = max(map(len, self._declarations))
        return "\n".join(
            textwrap.fill(
                each.about or "-", 78, initial_indent=f"  {name:{width}}  ", subsequent_indent=" " * (width + 4)
            )
            for name, each in self._declarations.items()
        )

    def reads(self) -> dict[str, type[Section]]:
        """What all of them read: see :attr:`Declaration.reads`."""
        return {key: section for declared in self._declarations.values() for key, section in declared.reads.items()}

    def readers(self, key: str) -> list[str]:
        """The names of those that read a section or a flat setting."""
        return [name for name, declared in self._declarations.items() if key in declared.reads]


class NameIn:
    """Annotates text that must be one of the names of a registry, as they are when it is validated.

    To pydantic it is a ``Literal`` of these names, in its errors and in the JSON schema.
    """

    def __init__(self, registry: Registry[Any]) -> None:
        self._registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """See pydantic."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """See pydantic."""
        return {"type": "string", "enum": list(self._registry)}

    def _check(self, name: str) -> str:
        if name not in tuple(self._registry):
            raise PydanticKnownError("literal_error", {"expected": ", ".join(map(repr, self._registry))})
        return name


class Extensible(Section):
    """A section of the configuration with the settings of all that its registries hold beside its fields.

    They have their defaults where nothing is given. :meth:`section` gives them with their types.
    """

    model_config = ConfigDict(extra="allow")

    registries: ClassVar[Mapping[str, Registry[Any]]]
    """Field that holds a name -> what names it."""

    @model_validator(mode="before")
    @classmethod
    def _read_settings(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        names = [*cls.model_fields, *(key for registry in cls.registries.values() for key in registry.reads())]
        if both := sorted({name for name in names if names.count(name) > 1}):
            raise RegistrationError(f"section {', '.join(both)} has the name of a setting that stands there already")
        settings = cls._settings()
        own = {key: value for key, value in values.items() if key in cls.model_fields}
        others = settings.model_validate({key: value for key, value in values.items() if key not in own})
        return own | {key: getattr(others, key) for key in settings.model_fields}

    @classmethod
    def _settings(cls) -> type[Section]:
        """A section of all settings that the registries hold."""
        declared = [registry[name] for registry in cls.registries.values() for name in registry]
        flat = dict.fromkeys(kind for each in declared for kind in each.flat)
        return _section_of(tuple(flat), tuple(item for each in declared for item in each.settings.items()))

    @model_validator(mode="after")
    def _check(self) -> Extensible:
        for name, registry in self.registries.items():
            check = registry[getattr(self, name)].check
            if check is not None:
                check(self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """That of the fields and of all settings."""
        own = handler.resolve_ref_schema(handler(schema))
        settings = handler.resolve_ref_schema(handler(cls._settings().__pydantic_core_schema__))
        own["properties"] = {**own["properties"], **settings["properties"]}
        own["additionalProperties"] = False
        return own

    @model_serializer(mode="wrap")
    def _without_unchanged(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        if info.exclude_defaults:
            changed = self.changed()
            values = {key: value for key, value in values.items() if key in type(self).model_fields or key in changed}
        return values

    def changed(self) -> list[str]:
        """The sections and flat settings that differ from their defaults."""
        default = self._settings()()
        return [key for key, value in (self.model_extra or {}).items() if value != getattr(default, key)]

    def in_use(self) -> dict[str, Any]:
        """Setting -> value as in JSON, without those that belong to what is not chosen."""
        values: dict[str, Any] = self.model_dump(mode="json")
        chosen = {field_name: getattr(self, field_name) for field_name in self.registries}
        others = {
            key
            for key in values
            for field_name, registry in self.registries.items()
            if (readers := registry.readers(key)) and chosen[field_name] not in readers
        }
        return {key: value for key, value in values.items() if key not in others}

    def unread(self, chosen: Mapping[str, Collection[str]]) -> Iterator[tuple[str, str]]:
        """The changed settings that belong to what is not chosen, each with why it has no effect.

        Args:
          chosen: field that holds a name -> the names that are chosen, or "all".
        """
        for key in self.changed():
            for field_name, registry in self.registries.items():
                readers = registry.readers(key)
                if readers and not {*readers, "all"}.intersection(names := chosen[field_name]):
                    yield key, f"belongs to {', '.join(readers)} and has no effect with {', '.join(names)}"

    def section(self, kind: type[S]) -> S:
        """The settings of one section, or flat ones.

        Args:
          kind: the class that they were registered with.

        Raises:
          RegistrationError: if none was registered with it.
        """
        values = self.model_extra or {}
        for section in values.values():
            if isinstance(section, kind):
                return section
        if issubclass(self._settings(), kind):
            return kind(**{key: values[key] for key in kind.model_fields})
        kinds = " or ".join(registry.kind for registry in self.registries.values())
        raise RegistrationError(f"{kind.__name__} is no section of a registered {kinds}; pass it as settings")


@functools.lru_cache(maxsize=64)
def _section_of(flat: tuple[type[Section], ...], sections: tuple[tuple[str, type[Section]], ...]) -> type[Section]:
    fields: dict[str, Any] = {key: (kind, kind()) for key, kind in sections}
    # Pydantic takes the fields of the last base first.
    return create_model("Settings", __base__=(*reversed(flat), Section), **fields)


def _path(thing: Any) -> str:
    return thing if isinstance(thing, str) else f"{thing.__module__}:{thing.__qualname__}"


# --- from outside the tree -----------------------------------------------------------------------------------------

_packages: dict[str, Path] = {}


def plugin_packages() -> dict[str, Path]:
    """Top-level name -> folder of the packages of all plugins of this process; of a single module, its file without
    its suffix."""
    return dict(_packages)


def load_plugins(modules: Iterable[str]) -> None:
    """Imports modules that register what is not in the tree; one that is imported already is not run again.

    Raises:
      RegistrationError: if there is no such module, or it cannot be imported; the message names it.
    """
    for module in modules:
        _load_plugin(module)


def _load_plugin(module: str) -> str:
    if not _MODULE.fullmatch(module):
        raise RegistrationError(f"{module!r} is no name of a module, such as my_package.my_module")
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise RegistrationError(
                f"there is no module {module} here: install its package into this environment, or name the folder that "
                "holds it in PYTHONPATH"
            ) from error
        raise RegistrationError(f"{module} needs a module that is not here: {error}") from error
    except RegistrationError as error:
        raise RegistrationError(f"{module}: {error}") from error
    except Exception as error:
        # A plugin is another's code: whatever it raises belongs to it, and the reader needs its line.
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename}, line {last.lineno}"
        raise RegistrationError(f"importing {module} failed: {type(error).__name__}: {error} ({where})") from error
    top = module.partition(".")[0]
    loaded = sys.modules[top]
    folders = getattr(loaded, "__path__", None) or [Path(str(loaded.__file__)).with_suffix("")]
    _packages[top] = Path(next(iter(folders)))
    return module


Plugin = Annotated[str, AfterValidator(_load_plugin)]
"""The name of a module that registers what is not in the tree; reading it imports that module."""
