"""Print config/README.md with its tables of keys made anew, from the configuration's sections and what their docstrings say.

Its argument is the file as it is. Below each heading of a section, as `### training`, the table is replaced; the rest is kept.
"""

import inspect
import re
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from decodiff import settings
from decodiff.config import Config

SECTIONS = {
    "Top level": Config,
    "data.<name>": settings.Data,
    "data.<name>.augmentation": settings.Augmentation,
    "image": settings.Image,
    "autoencoder, source: pretrained": settings.PretrainedAutoencoder,
    "autoencoder, source: train": settings.TrainedAutoencoder,
    "autoencoder, source: components": settings.ComponentAutoencoder,
    "diffusion": settings.Diffusion,
    "masking": settings.Masking,
    "training": settings.Training,
    "model, source: train": settings.TrainedModel,
    "model, source: reference": settings.ReferenceModel,
    "inference": settings.Inference,
    "correction": settings.Correction,
    "scoring": settings.Scoring,
    "floor": settings.Floor,
    "methods.<name>": settings.Method,
    "evaluation": settings.Evaluation,
}
NAME = "letters, digits, `_`, `-`"


def meanings(section: type) -> tuple[str, dict[str, str]]:
    """What a section's docstring says of it, and of each key."""
    text, _, attributes = inspect.getdoc(section).partition("\nAttributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", attributes, re.M)
    return markdown(text), {key: markdown(words) for key, words in found}


def markdown(text: str) -> str:
    """A docstring's text in one line, documents as links."""
    return re.sub(r"docs/(\w+\.md)", r"[docs/\1](../docs/\1)", " ".join(text.replace("``", "`").split()))


def number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def limits(metadata: Sequence[Any]) -> str:
    """What constraints allow a number to be."""
    low = next((f"≥ {number(item.ge)}" for item in metadata if isinstance(item, Ge)), "")
    low = low or next((f"> {number(item.gt)}" for item in metadata if isinstance(item, Gt)), "")
    high = next((f"≤ {number(item.le)}" for item in metadata if isinstance(item, Le)), "")
    high = high or next((f"< {number(item.lt)}" for item in metadata if isinstance(item, Lt)), "")
    if low.startswith("≥") and high.startswith("≤"):
        return f"{low[2:]} to {high[2:]}"
    return ", ".join(filter(None, (low, high)))


def values(kind: Any, metadata: Sequence[Any] = ()) -> str:
    """What values a type stands for; nothing of a section or a table of them."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind == settings.Name:
        return NAME
    if origin is Annotated:
        return values(inner[0], [*_constraints(inner[1:]), *metadata])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        known = [part for part in inner if part is not type(None)]
        return "; ".join(filter(None, (values(known[0], metadata), "`null`"))) if len(known) == 1 else ""
    if origin is tuple:
        least = next((f"; at least {item.min_length}" for item in metadata if isinstance(item, MinLen)), "")
        item = values(inner[0])
        return f"list{f', each {item}' if item != 'text' else ''}{least}"
    if kind in (int, float):
        return limits(metadata) or ("integer" if kind is int else "number")
    return "text" if kind is str else ""


def _constraints(metadata: tuple[Any, ...]) -> list[Any]:
    return [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else [item])]


def default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, settings.Section) or value == {}:
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return "`null`" if value is None else number(value) if isinstance(value, int | float) else f"`{value}`"


def table(section: type) -> str:
    """A section's keys that hold values, as Markdown."""
    intro, said = meanings(section)
    lines = ["| Key | Meaning | Default | Range |", "|---|---|---|---|"]
    for key, field in section.model_fields.items():
        kind = field.annotation
        chooses = get_origin(kind) is Literal and len(get_args(kind)) == 1
        is_section = any(isinstance(part, type) and issubclass(part, settings.Section) for part in (kind, *get_args(kind)))
        if chooses or (is_section and key not in said):
            continue
        if key not in said:
            raise SystemExit(f"{section.__name__}.{key}: its docstring says nothing of it")
        allowed = values(Annotated[kind, *field.metadata] if field.metadata else kind)
        lines.append(f"| `{key}` | {said[key].rstrip('.')} | {default(field)} | {allowed} |")
    return "\n".join([*([] if section is Config else [intro, ""]), *lines])


def main(path: str) -> None:
    text = Path(path).read_text(encoding="utf-8")
    for name, section in SECTIONS.items():
        # from the heading to the end of its table
        pattern = re.compile(rf"(^### `?{re.escape(name)}`?\n\n)(?:.*\n)*?(?:\|.*\n)+", re.M)
        heading = pattern.search(text)
        if heading is None:
            raise SystemExit(f"{path}: no heading ### {name} with a table")
        text = f"{text[: heading.start()]}{heading[1]}{table(section)}\n{text[heading.end() :]}"
    print(text, end="")


if __name__ == "__main__":
    main(sys.argv[1])
