"""Frozen dataclasses to and from JSON, and `a.b=c` overrides.  An unknown key is an error."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from discern.errors import ConfigError

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration dataclass as plain JSON types."""
    return json.loads(TypeAdapter(type(config)).dump_json(config))


def from_dict(kind: type[T], values: Mapping[str, Any]) -> T:
    """A validated configuration.

    Raises ConfigError for an unknown key or a value that does not fit.
    """
    _refuse_unknown(kind, values, prefix="")
    try:
        # via JSON, so that lists become tuples and numbers keep their types
        return TypeAdapter(kind, config=_strictness(kind)).validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"setting {where}: {first['msg']} (given: {first['input']!r})") from None


def override(config: T, assignments: Iterable[str]) -> T:
    """The configuration with `a.b=c` assignments applied; values are read as JSON, else as text."""
    values = to_dict(config)
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise ConfigError(
                f"--set {assignment}: write it as key=value, for example --set optim.rate=0.001"
            )
        _set(values, type(config), key.strip(), _parse(text.strip()))
    return from_dict(type(config), values)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Each setting that differs, as `a.b: old -> new`."""
    found = []
    for key in sorted({*old, *new}):
        left, right = old.get(key), new.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differences(left, right, f"{prefix}{key}.")
        elif left != right:
            found.append(f"{prefix}{key}: {left!r} -> {right!r}")
    return found


def _strictness(kind: type) -> ConfigDict | None:
    return None if dataclasses.is_dataclass(kind) else ConfigDict(extra="forbid")


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _set(values: dict[str, Any], kind: type, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    node, node_kind = values, kind
    for depth, part in enumerate(parents):
        _refuse_unknown(node_kind, {part: None}, prefix=".".join(parents[:depth]))
        if not isinstance(node.get(part), dict):
            raise ConfigError(
                f"--set {key}: {'.'.join(parents[: depth + 1])} is one value and has no parts"
            )
        node, node_kind = node[part], _field_type(node_kind, part)
    _refuse_unknown(node_kind, {last: None}, prefix=".".join(parents))
    node[last] = value


def _refuse_unknown(kind: type, values: Mapping[str, Any], prefix: str) -> None:
    if not dataclasses.is_dataclass(kind):
        return
    names = [field.name for field in dataclasses.fields(kind)]
    for key, value in values.items():
        path = f"{prefix}.{key}" if prefix else key
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
            raise ConfigError(f"unknown setting {path}: {hint}")
        if isinstance(value, Mapping):
            _refuse_unknown(_field_type(kind, key), value, path)


def _field_type(kind: type, name: str) -> Any:
    hint = get_type_hints(kind)[name] if dataclasses.is_dataclass(kind) else dict
    options = [part for part in getattr(hint, "__args__", ()) if dataclasses.is_dataclass(part)]
    return options[0] if options else hint
