"""Footage to TFRecords with Apache Beam: list sources, plan shards, build them, describe the dataset."""
