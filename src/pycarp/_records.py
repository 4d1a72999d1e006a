"""Dataclasses that cost a third of a millisecond less each: their methods are made when they are first used.

For type checkers, and for `dataclasses.fields`, `replace`, `asdict` and `is_dataclass`, they are dataclasses. The
standard module compiles six methods of each class at once and loads `inspect`: for some hundred classes that is most of
what an engine's import and start would take. Here is the part of it that pycarp uses: no `order`, no `InitVar`, no
`init=False`.
"""

from __future__ import annotations

import sys
from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import asdict as asdict
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import fields as fields
    from dataclasses import is_dataclass as is_dataclass
    from dataclasses import replace as replace
else:
    _MISSING = object()

    class _Factory:
        def __repr__(self):
            return "<factory>"

    _MADE = _Factory()
    """The default of a parameter whose field has a factory."""
    _OWN = "__record_fields__"

    class _Field:
        __slots__ = ("compare", "default", "factory", "hash", "kw_only", "name", "repr", "type")

        def __init__(self, default=_MISSING, default_factory=_MISSING, repr=True, compare=True, hash=None):
            self.default = default
            self.factory = default_factory
            self.repr = repr
            self.compare = compare
            self.hash = hash

        @property
        def has_default(self):
            return self.default is not _MISSING or self.factory is not _MISSING

    field = _Field

    def dataclass(cls=None, /, *, frozen=False, slots=False, kw_only=False, eq=True, repr=True):
        """As `dataclasses.dataclass`."""

        def make(cls):
            return _made(cls, slots, kw_only, {"frozen": frozen, "eq": eq, "repr": repr})

        return make if cls is None else make(cls)

    def fields(record):
        """The fields of a record or of its class, in order, each with its `name`."""
        return tuple(getattr(record, _OWN).values())

    def is_dataclass(value):
        return hasattr(value, _OWN)

    def replace(record, /, **changes):
        """A copy with these fields changed."""
        values = {name: getattr(record, name) for name in getattr(record, _OWN) if name not in changes}
        return record.__class__(**values, **changes)

    def asdict(record):
        """Names and values, also of the records within."""
        import dataclasses

        return dataclasses.asdict(record)

    def _made(cls, slots, kw_only, options):
        every = {}
        for base in reversed(cls.__mro__[1:]):
            every.update(base.__dict__.get(_OWN, ()))
        inherited = set(every)
        namespace = dict(cls.__dict__)
        for name, kind in cls.__annotations__.items():
            if not kind.startswith("ClassVar"):
                given = namespace.pop(name, _MISSING)
                every[name] = one = given if isinstance(given, _Field) else _Field(given)
                one.name, one.type, one.kw_only = name, kind, kw_only
        for left in ("__dict__", "__weakref__"):
            namespace.pop(left, None)
        if slots:
            namespace["__slots__"] = tuple(
                name for name in every if name not in inherited and name in cls.__annotations__
            )
        namespace[_OWN] = every
        namespace["__init__"] = _Init()
        namespace["__match_args__"] = tuple(one.name for one in every.values() if not one.kw_only)
        namespace["__replace__"] = replace
        namespace["__dataclass_fields__"] = _Twin("__dataclass_fields__")
        namespace["__dataclass_params__"] = _Twin("__dataclass_params__")
        namespace["__record_options__"] = options
        if options["repr"]:
            namespace.setdefault("__repr__", _repr)
        if options["eq"]:
            _compare(namespace, every.values(), options["frozen"])
        if options["frozen"]:
            namespace.update(_FROZEN)
        made = type(cls)(cls.__name__, cls.__bases__, namespace)
        made.__qualname__ = cls.__qualname__
        return made

    def _compare(namespace, every, frozen):
        compared = [one.name for one in every if one.compare]
        hashed = [one.name for one in every if (one.compare if one.hash is None else one.hash)]
        values = attrgetter(*compared) if compared else _nothing
        parts = values if hashed == compared else attrgetter(*hashed)

        def __eq__(self, other):
            return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

        def __hash__(self):
            return hash(parts(self))

        namespace.setdefault("__eq__", __eq__)
        namespace.setdefault("__hash__", __hash__ if frozen else None)

    def _nothing(_record):
        return ()

    def _repr(self):
        shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
        return f"{self.__class__.__qualname__}({', '.join(shown)})"

    def _refuse_set(self, name, value):
        if type(self).__dict__.get(_OWN) is not None or name in getattr(self, _OWN):
            raise _frozen(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)

    def _refuse_delete(self, name):
        if type(self).__dict__.get(_OWN) is not None or name in getattr(self, _OWN):
            raise _frozen(f"cannot delete field {name!r}")
        object.__delattr__(self, name)

    def _frozen(text):
        from dataclasses import FrozenInstanceError

        return FrozenInstanceError(text)

    def _state(self):
        return [getattr(self, name) for name in getattr(self, _OWN)]

    def _set_state(self, state):
        for name, value in zip(getattr(self, _OWN), state, strict=True):
            object.__setattr__(self, name, value)

    _FROZEN = {
        "__setattr__": _refuse_set,
        "__delattr__": _refuse_delete,
        "__getstate__": _state,
        "__setstate__": _set_state,
    }

    class _Init:
        """`__init__`, compiled when somebody first asks for it."""

        def __set_name__(self, owner, name):
            self.owner = owner

        def __get__(self, instance, _owner=None):
            made = _compiled(self.owner)
            self.owner.__init__ = made
            return made if instance is None else made.__get__(instance)

    def _compiled(cls):
        every = fields(cls)
        plain = [_parameter(one) for one in every if not one.kw_only]
        named = [_parameter(one) for one in every if one.kw_only]
        frozen = cls.__record_options__["frozen"]
        values = {"_set": object.__setattr__, "_made": _MADE}
        lines = []
        for one in every:
            value = one.name
            if one.factory is not _MISSING:
                values[f"_factory_{one.name}"] = one.factory
                value = f"_factory_{one.name}() if {one.name} is _made else {one.name}"
            values[f"_default_{one.name}"] = _MADE if one.default is _MISSING else one.default
            lines.append(f"_set(self, {one.name!r}, {value})" if frozen else f"self.{one.name} = {value}")
        if hasattr(cls, "__post_init__"):
            lines.append("self.__post_init__()")
        parameters = ", ".join(["self", *plain, *(["*", *named] if named else [])])
        body = "\n  ".join(lines or ["pass"])
        code = f"def _create({', '.join(values)}):\n def __init__({parameters}):\n  {body}\n return __init__"
        found = {}
        exec(code, sys.modules[cls.__module__].__dict__, found)
        made = found["_create"](**values)
        made.__qualname__ = f"{cls.__qualname__}.__init__"
        made.__annotations__ = {**{one.name: one.type for one in every}, "return": None}
        return made

    def _parameter(one):
        return f"{one.name}=_default_{one.name}" if one.has_default else one.name

    class _Twin:
        """What the module dataclasses keeps in a class, taken from one that it makes with the same fields."""

        def __init__(self, name):
            self.name = name

        def __set_name__(self, owner, name):
            self.owner = owner

        def __get__(self, _instance, _owner=None):
            import typing
            from dataclasses import field, make_dataclass

            described = []
            for one in fields(self.owner):
                options = {"repr": one.repr, "compare": one.compare, "hash": one.hash, "kw_only": one.kw_only}
                if one.default is not _MISSING:
                    options["default"] = one.default
                if one.factory is not _MISSING:
                    options["default_factory"] = one.factory
                described.append((one.name, one.type, field(**options)))
            # Who looks at the fields may resolve their types, whose names are there for type checkers only.
            room = vars(sys.modules[self.owner.__module__])
            for name in ("Any", "ClassVar", "Literal"):
                room.setdefault(name, getattr(typing, name))
            twin = make_dataclass(self.owner.__name__, described, **self.owner.__record_options__)
            for name in ("__dataclass_fields__", "__dataclass_params__"):
                setattr(self.owner, name, getattr(twin, name))
            return getattr(twin, self.name)
