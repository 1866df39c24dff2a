"""Prometheus' text format, to its rules."""

import math

import pytest

from daemon.exposition import Family, Sample, gauge, read, render


def test_a_family_has_its_help_and_type_before_its_samples():
    family = Family(
        name="runs",
        kind="gauge",
        meaning="Runs by state.",
        samples=(Sample(value=2, labels={"state": "queued"}), Sample(value=0.5)),
    )
    assert render([family]) == (
        '# HELP runs Runs by state.\n# TYPE runs gauge\nruns{state="queued"} 2\nruns 0.5\n'
    )


def test_a_family_without_samples_is_left_out():
    assert render([Family(name="a", kind="gauge", meaning="m", samples=()), gauge("b", "m", 1)]) == (
        "# HELP b m\n# TYPE b gauge\nb 1\n"
    )


def test_what_would_break_a_line_is_escaped():
    family = Family(
        name="a", kind="gauge", meaning="two\nlines \\", samples=(Sample(value=1, labels={"t": 'q"\\\n'}),)
    )
    help_line, _, sample = render([family]).splitlines()
    assert help_line == r"# HELP a two\nlines \\"
    assert sample == r'a{t="q\"\\\n"} 1'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (3.0, "3"),
        (0.1, "0.1"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
        (1e17, "100000000000000000"),
    ],
)
def test_numbers_are_written_as_the_format_wants(value, text):
    assert render([gauge("a", "m", value)]).splitlines()[-1] == f"a {text}"


def test_what_was_written_is_read_back():
    nasty = {"t": 'q"\\\n, x="} 7', "u": r"\n"}
    hours = Family(
        name="hours",
        kind="histogram",
        meaning="two\nlines \\",
        samples=(
            Sample(value=1, labels={"le": "0.5", **nasty}, suffix="_bucket"),
            Sample(value=0.25, suffix="_sum"),
        ),
    )
    read_back = read(render([hours, gauge("b", "m", 3)]))
    assert read_back == [
        {
            "name": "hours",
            "kind": "histogram",
            "meaning": "two\nlines \\",
            "samples": [
                {"name": "hours_bucket", "labels": {"le": "0.5", **nasty}, "value": 1},
                {"name": "hours_sum", "labels": {}, "value": 0.25},
            ],
        },
        {
            "name": "b",
            "kind": "gauge",
            "meaning": "m",
            "samples": [{"name": "b", "labels": {}, "value": 3}],
        },
    ]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_no_number_is_read_as_nothing(value):
    ((sample,),) = (family["samples"] for family in read(render([gauge("a", "m", value)])))
    assert sample["value"] is None
