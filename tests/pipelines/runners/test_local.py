import sys
from types import SimpleNamespace

import apache_beam as beam

from pipelines.runners.local import parse_beam_args


def test_pipeline_in_a_notebook_needs_no_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: object()))
    monkeypatch.setitem(sys.modules, "pandas", None)
    for name in [
        name for name in sys.modules if name.startswith("apache_beam.runners.interactive")
    ]:
        monkeypatch.delitem(sys.modules, name)
    created = parse_beam_args([], workers=1).pipeline() | "Numbers" >> beam.Impulse()
    assert created.producer.full_label == "Numbers"
