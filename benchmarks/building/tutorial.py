"""A generator as in tutorials: OpenCV reads and scales, TensorFlow encodes and writes, in one process.

python tutorial.py OUTPUT.tfrecord [VIDEO ...]
"""

import sys

import cv2
import tensorflow as tf

NUM_FRAMES = 10
HEIGHT, WIDTH = 180, 320


def main() -> None:
    output, *videos = sys.argv[1:]
    with tf.io.TFRecordWriter(output) as writer:
        for video in videos:
            capture = cv2.VideoCapture(video)
            encoded = []
            while True:
                there, frame = capture.read()
                if not there:
                    break
                frame = cv2.cvtColor(cv2.resize(frame, (WIDTH, HEIGHT)), cv2.COLOR_BGR2RGB)
                encoded.append(tf.io.encode_jpeg(frame, quality=95).numpy())
                if len(encoded) == NUM_FRAMES:
                    writer.write(make_example(video, encoded).SerializeToString())
                    encoded = []
            capture.release()


def make_example(video: str, encoded: list[bytes]) -> tf.train.SequenceExample:
    context = {
        "clip/data_path": bytes_feature(video.encode()),
        "clip/label/index": tf.train.Feature(int64_list=tf.train.Int64List(value=[0])),
    }
    images = tf.train.FeatureList(feature=[bytes_feature(data) for data in encoded])
    return tf.train.SequenceExample(
        context=tf.train.Features(feature=context),
        feature_lists=tf.train.FeatureLists(feature_list={"image/encoded": images}),
    )


def bytes_feature(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


if __name__ == "__main__":
    main()
