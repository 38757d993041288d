"""Packaging: all metadata is here, since Beam's remote runners build it (``--setup_file ./setup.py``)."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="reelbeam",
    version="0.1.0",
    description="Videos and dash-cam footage to TFRecords of labelled frame sequences with Apache Beam, "
    "and a Keras CNN-LSTM trained on them",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["pipelines*", "tfrecords_schema*", "trainer*"]),
    package_data={
        "tfrecords_schema": ["example.proto", "example_pb2.pyi"],
        "tfrecords_schema.report": ["*.html", "*.css"],
        "pipelines.validation.report": ["*.html"],
        "trainer.report": ["*.html"],
    },
    install_requires=[
        "apache-beam>=2.70,<3",
        "av>=16",
        "google-crc32c>=1.5",
        "jinja2>=3.1",
        "jmespath>=1.0",
        "msgspec>=0.19",
        "numpy>=1.26",
        "packaging>=22",
        "opencv-python-headless>=4.10",
        "protobuf>=4.25",
        "simplejpeg>=1.8",
        "tqdm>=4.66",
    ],
    extras_require={
        "trainer": ["matplotlib>=3.8", "tensorflow>=2.19"],
        "gcp": ["apache-beam[gcp]>=2.70,<3", "gcsfs>=2026.10"],
        # Nothing of Beam's: its client for S3 would be a second one, whose pins the first must meet.
        "aws": ["s3fs>=2025.2"],
        "hdfs": ["fsspec>=2026.9", "pyarrow>=14"],
        "fuzz": ["atheris>=2.3"],
        "dev": [
            "gcsfs>=2026.10",
            "hypothesis>=6.100",
            "import-linter>=2",
            "moto[server]>=5.0.20",
            "mypy>=1.11",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.9",
            "s3fs>=2025.2",
            "tensorboard",
            "types-tqdm",
        ],
    },
    entry_points={
        "console_scripts": ["pipelines = pipelines.cli:run", "trainer = trainer.cli:run"],
    },
)
