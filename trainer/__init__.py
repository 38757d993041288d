"""TFRecords to a trained model: reads the datasets that `pipelines` builds and trains a CNN-LSTM on them.

Everything the trainer has to know of a dataset (shapes, task, class names, units, statistics) it takes
from the folder's ``dataset_info.json``; it knows nothing of videos. `reader` and `layers` are useful on
their own, in anyone's ``model.fit``. Importing this package, `cli` or `config` does not import
TensorFlow; the other modules do.
"""
