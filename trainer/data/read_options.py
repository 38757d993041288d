"""Options of `trainer.data.reader.read_sequences`, in groups that check themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tensorflow as tf

from trainer.data.cached_frames import CachedFrames
from trainer.data.corrupt import SkippedRecords
from trainer.errors import ConfigError

ImageDtype = Literal["uint8", "float32"]


@dataclass(frozen=True, kw_only=True)
class Shuffle:
    """The order of shuffled records, and which of them an epoch holds.

    Example: ``Shuffle(buffer=1000, balance_classes=True)``.

    Attributes:
        buffer: records shuffled at a time. By default as many as fit in 256 MiB.
        balance_classes: read equally many sequences of each class. Some of rare classes are repeated, some of
            common classes are left out; an epoch keeps about its size.
        first_epoch: makes the dataset endless: this epoch, the next, and so on. The seed and the number of an
            epoch decide its order. For ``fit(steps_per_epoch=...)`` of a run that may be resumed.
        first_step: batches to leave out of the first of these epochs, for a run resumed within it.

    Raises:
        ConfigError: if a value is out of range, or ``first_step`` comes without ``first_epoch``.
    """

    buffer: int | None = None
    balance_classes: bool = False
    first_epoch: int | None = None
    first_step: int = 0

    def __post_init__(self) -> None:
        if self.buffer is not None and self.buffer < 1:
            raise ConfigError(f"buffer must be at least 1, got {self.buffer}")
        if self.first_step and self.first_epoch is None:
            raise ConfigError("first_step needs first_epoch: give both or neither")


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The form of the frames, and the features and weights that batches hold beside them.

    Example: ``Outputs(image_size=(90, 160), image_dtype="float32", metadata=True)``.

    Attributes:
        image_size: height and width that frames are resized to. By default they keep their size.
        image_dtype: ``uint8``, 0 to 255; or ``float32``, 0 to 1.
        padding_mask: add ``features["padding_mask"]``, ``[B, T]`` bool: False for padding.
        metadata: add ``features["id"]``, ``["source"]`` and ``["group"]``, ``[B]`` string, and
            ``["timestamps"]``, ``[B, T]`` int64 microseconds.
        sample_weights: add the weights.
        class_weights: weight of each class, in label order. Implies ``sample_weights``.

    Raises:
        ConfigError: if ``image_dtype`` is neither.
    """

    image_size: tuple[int, int] | None = None
    image_dtype: ImageDtype = "uint8"
    padding_mask: bool = False
    metadata: bool = False
    sample_weights: bool = False
    class_weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.image_dtype not in ("uint8", "float32"):
            raise ConfigError(f"image_dtype must be uint8 or float32, got {self.image_dtype!r}")

    @property
    def has_weights(self) -> bool:
        """True if batches hold weights."""
        return self.sample_weights or self.class_weights is not None


@dataclass(frozen=True, kw_only=True)
class Loading:
    """The cache of decoded frames, the treatment of corrupt records, and the share of a host.

    Attributes:
        cache: decoded frames to read in place of the records', from
            `trainer.data.cached_frames.cached_frames`.
        ignore_errors: skip corrupt records instead of stopping at the first. A `SkippedRecords` counts them.
            If one of several clips of a sequence is corrupt, all of them are skipped.
        drop_remainder: leave out a last batch that is not full.
        deterministic: give equal batches for equal seeds, with any number of threads. By default True with a
            seed or without shuffling.
        input_context: gives this host its part of each batch, for
            ``strategy.distribute_datasets_from_function``. A last batch that is not full is divided too.

    Raises:
        ConfigError: if ``ignore_errors`` comes with an option that needs every record.
    """

    cache: CachedFrames | None = None
    ignore_errors: bool | SkippedRecords = False
    drop_remainder: bool = False
    deterministic: bool | None = None
    input_context: tf.distribute.InputContext | None = None

    def __post_init__(self) -> None:
        if self.ignore_errors and (self.cache is not None or self.input_context is not None):
            raise ConfigError(
                "ignore_errors cannot be combined with cache or input_context, which need every record"
            )
