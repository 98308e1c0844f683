"""Recipe files: TOML with KEY=VALUE overrides, read as a Recipe, and a Recipe written as TOML."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mtl.errors import BadInput
from mtl.paths import check_text, user_path
from mtl.vocabulary.close import did_you_mean
from search.recipe import MOST_VALUES, Recipe

MOST_RECIPE_BYTES = 2**20
MOST_SHOWN = 300  # characters of a value in a message
SHIPPED = resources.files("search") / "recipes"
# The fields that are tables, and what their entries may be.
TABLES = {
    "dataset_options": "text, true, false, or a finite number of at most 18 digits",
    "backbone_options": "text, true, false, a finite number of at most 18 digits, or a list of these",
    "search_space": f"a list of at most {MOST_VALUES:,} texts or finite numbers of at most 18 digits",
}


def recipe_names() -> list[str]:
    """The recipes shipped."""
    return sorted(path.name.removesuffix(".toml") for path in SHIPPED.iterdir() if path.name.endswith(".toml"))


def recipe_name(recipe: str) -> str:
    """The name of a sweep of this recipe unless the user gives another."""
    return recipe if recipe in recipe_names() else Path(recipe).stem


def load_recipe(name: str, overrides: Sequence[str] = (), fields: Mapping[str, Any] | None = None) -> Recipe:
    """A shipped recipe by its name, or a user's file by its path, with KEY=VALUE overrides, or fields by name.

    Raises BadInput, one line, for an unknown recipe or field and for a value that is not allowed.
    """
    text = (SHIPPED / f"{name}.toml").read_text(encoding="utf-8") if name in recipe_names() else _read_file(name)
    try:
        found = _parse_toml(f"recipe {name}:", text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"recipe {name}: not a TOML file ({error})") from error
    for override in overrides:
        key, value = parse_assignment("--set", override, "epochs=3")
        empty = override.rstrip().endswith("=")
        if empty and _goes_without(key):
            found.pop(key, None)
            continue
        _set_field(found, key, None if empty and "." in key else value)
    return make_recipe(name, found | dict(fields or {}))


def make_recipe(name: str, fields: Mapping[str, Any]) -> Recipe:
    """A recipe of these fields. name: what messages call it. Raises BadInput as `load_recipe` does."""
    for field, value in fields.items():
        if field not in Recipe.model_fields:
            hint = did_you_mean(field, Recipe.model_fields)
            raise BadInput(f"recipe {name}: unknown field {field!r}; {hint}allowed: {', '.join(Recipe.model_fields)}")
        for part in _texts(value):
            check_text(f"recipe {name}: {field} =", part)
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        raise BadInput(f"recipe {name}: {_fault(fields, error)}") from error


def _read_file(name: str) -> str:
    """The text of a user's recipe file."""
    path = user_path("recipe", name)
    if not path.is_file():
        known = recipe_names()
        raise BadInput(
            f"recipe {name!r}: no such recipe; {did_you_mean(name, known)}allowed: {', '.join(known)}, or a recipe "
            "file's path"
        )
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_RECIPE_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"recipe {name}: cannot be read ({error})") from error
    if len(content) > MOST_RECIPE_BYTES:
        raise BadInput(f"recipe {name}: has more than {MOST_RECIPE_BYTES:,} bytes; allowed: a recipe")
    return text


def _parse_toml(what: str, text: str) -> dict[str, Any]:
    """`tomllib.loads`, with its TOMLDecodeError. Other faults become BadInput, which begins with `what`."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError as error:
        raise BadInput(f"{what} lists or tables are nested too deeply; allowed: a list of values") from error
    except ValueError as error:  # int() refuses thousands of digits
        raise BadInput(f"{what} holds a number of thousands of digits; allowed: numbers") from error


def _texts(value: Any) -> Iterator[str]:
    """Every text in a field's value, with the keys of tables."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in (*value, *value.values()) if isinstance(value, Mapping) else value:
            yield from _texts(part)


def _fault(fields: Mapping[str, Any], error: ValidationError) -> str:
    """The first fault that pydantic found, in one line."""
    first = error.errors()[0]
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    field = str(first["loc"][0])
    if field in TABLES and len(first["loc"]) > 1:
        entry = first["loc"][1]
        return f"{field}.{entry} = {_shown(fields[field][entry])}; allowed: {TABLES[field]}"
    description = Recipe.model_fields[field].description
    if first["type"] == "missing" and field not in fields:
        return f"{field} is missing; allowed: {description}"
    allowed = first["msg"].removeprefix("Input should be ").partition(", unable to parse")[0]
    hint = ""
    if first["type"] == "literal_error":  # the names allowed stand in quotes
        hint = did_you_mean(_shown(first["input"]), re.findall(r"'([^']+)'", first["msg"]))
    return f"{field} = {_shown(fields[field])}; {hint}allowed: {allowed} ({description})"


def _shown(value: object) -> str:
    """A value as messages show it."""
    try:
        text = str(value)
    except ValueError:  # an integer of thousands of digits, which TOML can have in hexadecimal
        return "a number of thousands of digits"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def parse_assignment(option: str, text: str, example: str) -> tuple[str, Any]:
    """KEY=VALUE. The value is TOML (`[0, 1e-5]`, `true`) or plain: `a,b` is a list, anything else is text."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise BadInput(f"{option} {text!r}; allowed: KEY=VALUE, such as {option} {example}")
    key, value = key.strip(), value.strip()
    what = f"{option} {key}:"
    if value.startswith("["):
        return key, _scalar(what, value)
    parts = [_scalar(what, part.strip()) for part in value.split(",") if part.strip()]
    return key, parts[0] if len(parts) == 1 and "," not in value else parts


def _goes_without(key: str) -> bool:
    """Whether `--set KEY=` takes a field out of the recipe, for its default; it empties a list that may be empty."""
    field = Recipe.model_fields.get(key)
    return field is not None and not field.is_required() and field.get_default() != ()


def _set_field(fields: dict[str, Any], key: str, value: Any) -> None:
    """Set a field, or an entry of a field that is a table if the key has a dot; None takes the entry away."""
    field, dot, entry = key.partition(".")
    if not dot:
        fields[key] = value
        return
    table = fields.get(field, {})
    if field not in Recipe.model_fields or not isinstance(table, dict):
        tables = ", ".join(f"{name}.NAME" for name in TABLES)
        raise BadInput(f"--set {key}: {field} is not a table of the recipe; allowed: {tables}")
    others = {name: one for name, one in table.items() if name != entry}
    fields[field] = others if value is None else {**others, entry: value}


def _scalar(what: str, text: str) -> Any:
    try:
        return _parse_toml(what, f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def format_recipe(recipe: Recipe) -> str:
    """The whole recipe as TOML that `load_recipe` reads back; a comment explains each field."""
    lines = []
    for name, value in recipe.model_dump(mode="json").items():
        lines.append(f"# {Recipe.model_fields[name].description}")
        lines.append(f"# {name} =" if value is None else f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A value as TOML: written as JSON, except for tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
