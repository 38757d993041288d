"""Validation: a dataset folder in, findings out. It reads every record and changes nothing.

A check is a module-level function with a name, a reason and a remedy (`findings.check`). What it looks at
decides where it lives: one record (`record_checks`, `frame_checks`, `label_checks`, `picture_checks`), two
records that follow each other (`neighbour_checks`), one file (`shard_checks`) or the whole dataset
(`dataset_checks`, `statistics_checks`, `value_checks`, `leak_checks`, `balance_checks`, `drift_checks`);
`checks` is the catalogue of them all. `examine` turns one shard into a small summary, `conclude` turns the
summaries into a `Result`, `transforms` wires the two in a Beam pipeline and `pipeline` runs it; `report`
shows the result as one HTML file.
"""
