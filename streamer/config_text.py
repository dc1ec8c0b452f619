"""The text side of the configuration: strict YAML, where each value came from, errors, the example.

Every scalar stays text (or null) here; the model that validates it decides what it means.
"""

import difflib
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from streamer.errors import ConfigError, NoInputError

KeyPath = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

_QUOTES = "a value that begins with * ! & or holds a colon, or ? within [ ] or { }, needs quotes"


class Sources:
    """Nested values as read, and where each path in them came from."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._origins: dict[KeyPath, str] = {}
        self._problems: list[str] = []

    def put(self, key: str, value: object, origin: str) -> None:
        """Set a dotted key over whatever it was."""
        *sections, name = key.split(".")
        place = self.values
        for section in sections:
            below = place.get(section) or {}
            if not isinstance(below, dict):
                return  # the file has a value where a section belongs: that is what gets reported
            place[section] = place = below
        place[name] = value
        self._origins[(*sections, name)] = origin

    def read_file(self, path: Path) -> None:
        """The values of a YAML file. Raises ConfigError where it is no YAML, NoInputError."""
        try:
            root = yaml.compose(path.read_bytes(), _PlainYaml)
        except OSError as error:
            raise NoInputError(f"configuration {path}: {error.strerror or error}") from error
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigError(f"{path}:{line}: {error.problem} ({_QUOTES})") from None
        except (yaml.YAMLError, UnicodeError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"{path}: not a YAML text: {reason}") from None
        if root is None or root.value == "":
            return
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{path}:1: keys such as `seedlink:` are expected")
        self.values = self._mapping(root, (), str(path))

    def _mapping(self, node: yaml.MappingNode, where: KeyPath, file: str) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            here = (*where, key)
            origin = f"{file}:{key_node.start_mark.line + 1}"
            if here in self._origins:
                first = self._origins[here]
                self._problems.append(f"{origin}: {_dotted(here)}: given before at {first}")
                continue
            self._origins[here] = origin
            values[key] = self._value(value_node, here, file)
        return values

    def _value(self, node: yaml.Node, where: KeyPath, file: str) -> object:
        match node:
            case yaml.MappingNode():
                return self._mapping(node, where, file)
            case yaml.SequenceNode():
                for index, item in enumerate(node.value):
                    self._origins[*where, index] = f"{file}:{item.start_mark.line + 1}"
                return [self._value(item, (*where, i), file) for i, item in enumerate(node.value)]
            case yaml.ScalarNode(style=None, value="" | "~" | "null" | "Null" | "NULL"):
                return None
        return node.value

    def origin(self, where: KeyPath) -> str:
        """Where the value at a path came from: `FILE:LINE`, a variable, or `default`."""
        return self._origins.get(where, "default")

    def value(self, key: str) -> object:
        """What is given for a dotted key; None if nothing is."""
        place: object = self.values
        for name in key.split("."):
            place = place.get(name) if isinstance(place, dict) else None
        return place

    def complain(self, key: str, message: str) -> None:
        """Have `validate` tell of an error of a dotted key, too."""
        where = tuple(key.split("."))
        self._problems.append(f"{self.origin(where)}: {key}: {message}")

    def validate(self, model: type[Model]) -> Model:
        """The values as a model. Raises a ConfigError that lists everything wrong with them."""
        settings = None
        try:
            settings = model.model_validate(self.values)
        except ValidationError as error:
            self._problems += [self._problem(detail, model) for detail in error.errors()]
        if settings is None or self._problems:
            raise ConfigError("\n".join(sorted(self._problems, key=_line)))
        return settings

    def _problem(self, detail: ErrorDetails, model: type[BaseModel]) -> str:
        where = detail["loc"]
        known = [where[:end] for end in range(len(where), 0, -1) if where[:end] in self._origins]
        origin = self._origins[known[0]] if known else "configuration"
        match detail["type"]:
            case "extra_forbidden":
                message = detail["msg"] + _suggestion(where, model)
            case "value_error":
                message = str(detail["ctx"]["error"])
            case "model_type":
                message = "Input should be a section with keys of its own"
            case _:
                message = detail["msg"]
        return f"{origin}: {_dotted(where)}: {message}"


def _line(problem: str) -> int:
    """The line of the file that a problem begins with; those of elsewhere come first."""
    found = re.match(r".*?:(\d+): ", problem)
    return int(found[1]) if found else 0


class _PlainYaml(yaml.SafeLoader):
    """YAML without aliases and tags: an unquoted `!CI.BAD` must be an error, not an empty text."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None):
            raise yaml.MarkedYAMLError(
                problem="tags and aliases are not used here", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


@dataclass(frozen=True)
class Setting:
    """One setting: its place, its meaning and bounds, and what it is set to."""

    where: KeyPath
    field: FieldInfo
    value: object

    @property
    def key(self) -> str:
        """`seedlink.start`."""
        return _dotted(self.where)

    @property
    def text(self) -> str:
        """The value as YAML has it."""
        return _as_yaml(self.value)

    @property
    def allowed(self) -> str:
        """`(auto, 3, 4)` or `(> 0, < 1)`, or nothing."""
        return _allowed(self.field)


def settings(section: BaseModel, where: KeyPath = ()) -> Iterator[Setting]:
    """All settings of a configuration, in the order of their declaration."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from settings(value, (*where, name))
        else:
            yield Setting((*where, name), field, value)


def _dotted(where: KeyPath) -> str:
    """`waveforms.sampling[0].mode`."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in where).removeprefix(".")


def _suggestion(where: KeyPath, section: type[BaseModel]) -> str:
    """` (did you mean 'servers'?)` for an unknown key that resembles a known one."""
    for part in where[:-1]:
        if isinstance(part, str):
            section = _section_of(section.model_fields[part])
    close = difflib.get_close_matches(str(where[-1]), section.model_fields, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _section_of(field: FieldInfo) -> type[BaseModel]:
    """The model of a section, or of the items of a list of sections."""
    below = get_args(field.annotation) or (field.annotation,)
    return cast(type[BaseModel], below[0])


def example_lines(section: type[BaseModel], indent: str = "") -> Iterator[str]:
    """YAML lines of every key of a model: meaning and bounds as a comment, then the default."""
    for number, (name, field) in enumerate(section.model_fields.items()):
        if number > 0 or not indent:
            yield ""
        comment = f"{field.description} {_allowed(field)}".rstrip()
        yield from textwrap.wrap(
            comment,
            width=100,
            initial_indent=f"{indent}# ",
            subsequent_indent=f"{indent}# ",
            break_on_hyphens=False,
        )
        if isinstance(field.default, BaseModel):
            yield f"{indent}{name}:"
            yield from example_lines(type(field.default), indent + "  ")
        elif field.examples:
            yield f"{indent}# {name}: {field.examples[0]}"
        else:
            yield f"{indent}{name}: {_as_yaml(field.default)}"


def _allowed(field: FieldInfo) -> str:
    """`(auto, 3, 4)` or `(> 0, < 1)`."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    allowed = [
        f"{sign} {getattr(bound, name)}"
        for bound in field.metadata
        for name, sign in signs.items()
        if hasattr(bound, name)
    ]
    if get_origin(field.annotation) is Literal:
        allowed = [str(choice) for choice in get_args(field.annotation)]
    return f"({', '.join(allowed)})" if allowed else ""


def _as_yaml(value: object) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, tuple):
        return f"[{', '.join(map(_as_yaml, value))}]"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w.-]*", value):
        return value
    return json.dumps(value)
