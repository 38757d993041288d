"""Thresholds: values that are refused, and the file in which a dataset may state them."""

from __future__ import annotations

import dataclasses
import json

import pytest

from pipelines.errors import UserError
from pipelines.validation.thresholds import DEFAULTS, Thresholds, load_thresholds


def test_load_thresholds_reads_every_threshold(tmp_path):
    fields = {name: value * 2 for name, value in dataclasses.asdict(DEFAULTS).items()}
    (tmp_path / "validation.json").write_text(json.dumps(fields))
    assert load_thresholds(str(tmp_path)) == Thresholds(**fields)


def test_load_thresholds_without_file_returns_defaults(tmp_path):
    assert load_thresholds(str(tmp_path)) is DEFAULTS
    (tmp_path / "validation.json").write_text("{}")
    assert load_thresholds(str(tmp_path)) == DEFAULTS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"no_such": 1}', "unknown threshold 'no_such'; known are timestamp_tolerance, "),
        ('{"skew": "much"}', "skew must be a number, got 'much'"),
        ('{"skew": true}', "skew must be a number, got True"),
        ('{"skew": -1}', "skew must be finite and not negative, got -1"),
        ('{"skew": NaN}', "skew must be finite"),
        ('{"duplicate_bits": 40}', "duplicate_bits must be 0 to 16, got 40"),
        ("[]", "must be a JSON object"),
        ("{", "Expecting"),
        ('{"skew": 1}\x00', "Extra data"),
    ],
)
def test_load_thresholds_names_file_and_error(tmp_path, text, said):
    path = tmp_path / "validation.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_thresholds(str(tmp_path))
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


def test_load_thresholds_requires_given_file(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.json does not exist"):
        load_thresholds(str(tmp_path), str(tmp_path / "nowhere.json"))
