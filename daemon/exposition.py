"""Prometheus' text format: families of samples in, text out. What is measured is not here.

Source: Prometheus, "Exposition formats", text format 0.0.4.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]
Kind = Literal["counter", "gauge", "histogram"]


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
