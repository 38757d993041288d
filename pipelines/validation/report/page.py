"""The report: one HTML file that opens offline, verdict first.

It loads nothing and runs nothing, which its content policy also forbids; the boxes that filter it are style
alone. Labels, ids and paths come from footage that anybody may have named, so every text passes `escape`.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

from pipelines.validation.folder import DatasetFolder
from pipelines.validation.outcome import Validation, plural
from pipelines.validation.report import contents as report_contents
from pipelines.validation.report import findings as report_findings
from pipelines.validation.report import sequences as report_sequences
from pipelines.validation.report.markup import escape, fold, pairs, plain, section
from pipelines.validation.report.style import STYLE

_MOST_FAILURES = 50
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render_report(validation: Validation, folder: DatasetFolder) -> str:
    """The whole page."""
    title = escape(f"{validation.info.name}: validation")
    sections = (
        report_findings.findings(validation),
        report_contents.contents(validation),
        report_contents.classes(validation),
        report_contents.targets(validation),
        report_contents.signals(validation),
        report_sequences.sequences(validation, folder),
        report_contents.shards(validation),
        report_findings.passed(validation),
        provenance(validation, folder),
    )
    body = "\n".join(own for own in sections if own)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(validation.info.name)}</h1>
{report_findings.verdict(validation)}
</header>
<main>
{body}
</main>
</body>
</html>
"""


def provenance(validation: Validation, folder: DatasetFolder) -> str:
    """Where the dataset comes from: commands, options, versions, and the sources that failed."""
    info, options = validation.info, validation.options
    validated = ["pipelines", "validate", "--tfrecords", options.tfrecords]
    validated += ["--against", options.against] if options.against else []
    built = [
        ("built by", build_command(info.options) or "another program"),
        ("validated by", shlex.join([*validated, "--fail_on", options.fail_on])),
        ("fingerprint", info.fingerprint or "none"),
        *((f"version of {name}", version) for name, version in info.versions.items()),
    ]
    parts = [
        pairs(built),
        fold("Options it was built with", pairs((k, plain(v)) for k, v in info.options.items())),
        fold("What became of the footage", pairs((k, f"{v:,}") for k, v in info.counts.items())),
        fold("What a record holds", pairs((k, plain(v)) for k, v in info.spec.to_json().items())),
    ]
    lines, count = folder.failures(_MOST_FAILURES)
    if count:
        items = "".join(f"<li>{escape(_failure(line))}</li>" for line in lines)
        more = (
            f"<p>and {count - len(lines):,} more in failures.jsonl</p>"
            if count > len(lines)
            else ""
        )
        parts.append(
            f"<details open><summary>{plural(count, 'source')} failed or ended early</summary>"
            f"<ul>{items}</ul>{more}</details>"
        )
    return section("provenance", "Provenance", "\n".join(parts))


def build_command(options: dict[str, Any]) -> str:
    """The command whose options these are, without the paths, which are not stored; empty for none."""
    if "num_frames" not in options:
        return ""
    verb = "dashcam" if "telemetry" in options or "annotation" in options else "videos"
    words = [f"pipelines {verb} --input ... --output ..."]
    left = dict(options)
    height, width = left.pop("height", None), left.pop("width", None)
    if height and width:
        words.append(f"--size {height}x{width}")
    for name, value in left.items():
        flag = f"--{name.removesuffix('s')}" if name == "split_lists" else f"--{name}"
        if value is True:
            words.append(flag)
        elif isinstance(value, dict):
            words.append(f"{flag} {','.join(f'{k}={v:g}' for k, v in value.items())}")
        elif isinstance(value, list) and value:
            words.append(f"{flag} {shlex.quote(','.join(plain(v) for v in value)[:200])}")
        elif value not in (None, False, [], ""):
            words.append(f"{flag} {shlex.quote(str(value))}")
    return " ".join(words)


def _failure(line: str) -> str:
    try:
        fields = json.loads(line)
        return f"{fields['source']}: {fields['stage']}: {fields['reason']}"
    except (ValueError, KeyError, TypeError):
        return line  # not ours; shown as it is
