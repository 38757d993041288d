"""What a record is: the contract between data engineering and modelling.

A dataset is a folder of TFRecord shards, each record one ``SequenceExample`` holding a fixed-length
sequence of encoded frames with its labels under the keys of MediaSequence, and one
``dataset_info.json``. This package says what is in a record (`spec`), turns records into bytes and
back (`encode`, `decode`), frames them in files (`records`), describes the folder (`info`) and makes
sample data (`fake`). None of that needs TensorFlow; only `parse`, which the trainer uses, does.
"""
