"""Packaging: all metadata is here, since Beam's remote runners build it (``--setup_file ./setup.py``)."""

from pathlib import Path

from setuptools import find_packages, setup

TEST = ["hypothesis>=6.100,<7", "pytest>=8,<10"]
EXPORT = [
    "ai-edge-litert>=2.1,<3",
    "onnx>=1.19,<2",
    "onnxruntime>=1.23,<2",
    "tf2onnx>=1.17,<2",
]

setup(
    name="reelbeam",
    version="0.1.0",
    description="Videos and dash-cam footage to TFRecords of labelled frame sequences with Apache Beam, "
    "and a Keras CNN-LSTM trained on them",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["pipelines*", "tfrecords_schema*", "trainer*"]),
    package_data={
        "tfrecords_schema": ["example.proto", "example_pb2.pyi"],
        "tfrecords_schema.report": ["*.html", "*.css"],
        "pipelines.browsing": ["*.html", "*.js"],
        "pipelines.validation.report": ["*.html"],
        "trainer.report": ["*.html", "*.md"],
    },
    # `make test-versions` tries each lower bound. An upper bound is the next major version, which nobody has
    # tried; fsspec, gcsfs, packaging and s3fs are numbered by year and month, and have none.
    install_requires=[
        "apache-beam>=2.70,<3",
        "av>=17.1,<20",
        "google-crc32c>=1.7,<2",
        "jinja2>=3.1,<4",
        "jmespath>=1.0,<2",
        "msgspec>=0.22,<1",
        "numpy>=2.1,<3",
        "opencv-python-headless>=4.11.0.86,<6",
        "packaging>=22",
        "protobuf>=5.28.3,<7",
        "pynmeagps>=1.1.1,<2",
        "simplejpeg>=1.8,<2",
        "tqdm>=4.66,<5",
    ],
    extras_require={
        "trainer": [
            "keras>=3.10,<4",
            "matplotlib>=3.9.2,<4",
            "tensorflow>=2.19,<3; python_version < '3.13'",
            "tensorflow>=2.20,<3; python_version >= '3.13'",
        ],
        "export": EXPORT,
        # Beside `trainer`: the CUDA libraries of TensorFlow.
        "gpu": [
            "tensorflow[and-cuda]>=2.19,<3; python_version < '3.13'",
            "tensorflow[and-cuda]>=2.20,<3; python_version >= '3.13'",
        ],
        "gcp": ["apache-beam[gcp]>=2.74,<3", "gcsfs>=2026.10"],
        # Nothing of Beam's: its client for S3 would be a second one, whose pins the first must meet.
        "aws": ["s3fs>=2026.9"],
        "completion": ["shtab>=1.7,<2"],
        "parquet": ["pyarrow>=18,<26"],
        "hdfs": ["fsspec>=2026.9", "pyarrow>=18,<26"],
        "torch": ["torch>=2.6,<3"],
        "docs": ["myst-parser>=4,<6", "sphinx>=8,<10"],
        "fuzz": [
            "atheris>=2.3,<3; python_version < '3.11'",
            "atheris>=3,<4; python_version >= '3.11'",
        ],
        "test": TEST,
        "dev": [
            *TEST,
            *EXPORT,
            "gcsfs>=2026.10",
            "import-linter>=2,<3",
            "ipykernel>=7,<8",
            "jupytext>=1.19,<2",
            "moto[server]>=5.0.20,<6",
            "mypy>=2.4,<3",
            "nbclient>=0.11,<0.12",
            "pytest-xdist>=3.6.1,<4",
            "ruff>=0.17,<0.18",
            "s3fs>=2026.9",
            "shtab>=1.7,<2",
            "tensorboard>=2.19,<3",
            "types-tqdm>=4.66,<5",
            "uv>=0.9,<1",
        ],
    },
    entry_points={
        "console_scripts": ["pipelines = pipelines.cli:run", "trainer = trainer.cli:run"],
    },
)
