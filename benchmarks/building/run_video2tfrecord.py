"""Runs video2tfrecord, which is a library, on a folder of videos.

python run_video2tfrecord.py CHECKOUT OUTPUT [FOLDER]
"""

import sys


def main() -> None:
    checkout, output, *folders = sys.argv[1:]
    sys.path.insert(0, checkout)
    import video2tfrecord

    video2tfrecord.FLAGS(["video2tfrecord"])  # its functions read flags that it does not parse
    for folder in folders:
        video2tfrecord.convert_videos_to_tfrecord(
            folder,
            output,
            n_frames_per_video="all",
            dense_optical_flow=False,
            width=320,
            height=180,
        )


if __name__ == "__main__":
    main()
