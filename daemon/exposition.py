"""Prometheus' text format: families of samples in, text out, and back. What is measured is not here.

Source: Prometheus, "Exposition formats", text format 0.0.4.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]
Kind = Literal["counter", "gauge", "histogram"]

SAMPLE: Final = re.compile(r"(?P<name>[^{ ]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL: Final = re.compile(r'(\w+)="((?:\\.|[^"\\])*)"')
ESCAPE: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One number. `suffix` is a histogram's: _bucket, _sum or _count."""

    value: float
    labels: Labels = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Samples of one name, with what they mean; one that has no sample is left out."""

    name: str
    kind: Kind
    meaning: str
    samples: tuple[Sample, ...]


def gauge(name: str, meaning: str, value: float) -> Family:
    """A family of one number without labels."""
    return Family(name=name, kind="gauge", meaning=meaning, samples=(Sample(value=value),))


def render(families: Iterable[Family]) -> str:
    """The families as text, each with its help and its type before its samples."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        meaning = family.meaning.replace("\\", r"\\").replace("\n", r"\n")
        lines += [f"# HELP {family.name} {meaning}", f"# TYPE {family.name} {family.kind}"]
        lines += [_line(family.name, sample) for sample in family.samples]
    return "\n".join(lines) + "\n"


def read(text: str) -> list[dict[str, Any]]:
    """Such a text as documents: each family's name, kind, meaning and samples.

    A sample has `name`, `labels` and `value`, None where it is no finite number, which JSON does not know.
    """
    families: list[dict[str, Any]] = []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, _, meaning = line.removeprefix("# HELP ").partition(" ")
            families.append({"name": name, "kind": None, "meaning": _unescaped(meaning), "samples": []})
        elif line.startswith("# TYPE "):
            families[-1]["kind"] = line.rpartition(" ")[2]
        elif sample := SAMPLE.fullmatch(line):
            value = float(sample["value"])
            labels = {label: _unescaped(found) for label, found in LABEL.findall(sample["labels"] or "")}
            told = {
                "name": sample["name"],
                "labels": labels,
                "value": value if math.isfinite(value) else None,
            }
            families[-1]["samples"].append(told)
    return families


def _unescaped(text: str) -> str:
    return ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], text)


def _line(name: str, sample: Sample) -> str:
    pairs = ",".join(f'{label}="{_escaped(value)}"' for label, value in sample.labels.items())
    return f"{name}{sample.suffix}{'{' + pairs + '}' if pairs else ''} {_number(sample.value)}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value)) if value != int(value) else str(int(value))
