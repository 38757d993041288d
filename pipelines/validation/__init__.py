"""Validates a dataset: reads every record, reports findings, and changes nothing.

A shard's records stream through `examine`, which returns a small summary; `conclude` combines the summaries
of all shards into a `result`. `pipeline` runs the two with Beam, `outcome` and `report/` show the result. A
check is a function with a reason and a remedy (`findings.check`), in the module of ``checks/`` for its
subject: a record, two consecutive records, a file, the whole dataset, or two versions of it.
"""
