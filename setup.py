"""What `pip install` puts on a machine; the settings of the development tools are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent

# Named one by one: what is not here is in no wheel (tests/test_package.py compares this with the folders).
PACKAGES = [
    "baselines",
    "baselines.benchmark",
    "export",
    "kpn_tf",
    "kpn_tf.batch",
    "kpn_tf.cli",
    "kpn_tf.cluster",
    "kpn_tf.datasets",
    "kpn_tf.denoiser",
    "kpn_tf.dicom",
    "kpn_tf.dicom.reading",
    "kpn_tf.dicom.writing",
    "kpn_tf.dose",
    "kpn_tf.evaluation",
    "kpn_tf.figures",
    "kpn_tf.layers",
    "kpn_tf.losses",
    "kpn_tf.metrics",
    "kpn_tf.networks",
    "kpn_tf.node",
    "kpn_tf.node.journal",
    "kpn_tf.node.listener",
    "kpn_tf.node.network",
    "kpn_tf.node.status",
    "kpn_tf.ops",
    "kpn_tf.phantom",
    "kpn_tf.quality",
    "kpn_tf.report",
    "kpn_tf.study",
    "kpn_tf.training",
    "kpn_tf.training.data",
    "kpn_tf.training.data.store",
]

# A workstation denoises with these alone; TensorFlow comes with the extra [train].
BASE = [
    "ai-edge-litert>=2.3,<3",
    "filelock>=3.30",  # locks on Windows too
    "numpy>=2",
    "pydicom>=3,<4",
    "pyjpegls>=1.5",  # JPEG-LS
    "pylibjpeg>=2",
    "pylibjpeg-openjpeg>=2.4",  # JPEG 2000
    "python-gdcm>=3.0.24",  # JPEG lossless and the lossy JPEGs; RLE is pydicom's own
    "tqdm>=4.66",
]

KERAS = [
    "tensorflow==2.21.*",
    "keras==3.15.*",
]

EXTRAS = {
    "train": [
        *KERAS,
        "tensorboard>=2.20",
    ],
    # TensorFlow Serving's messages for warm-up requests; the other runtimes, to compare with Keras in.
    "export": [
        *KERAS,
        "tensorflow-serving-api==2.21.*",
        "onnx>=1.19",
        "onnxruntime>=1.23",
        "tf2onnx>=1.17",
        "openvino>=2026.1",
    ],
    # The licence of bm3d, and of bm4d that it brings, allows non-commercial use only, which is why nothing else here
    # depends on it.
    "baselines": [
        "bm3d>=4",
        "dictlearn>=1",
        "threadpoolctl>=3",
    ],
    "figures": [
        "matplotlib>=3.11",
    ],
    "node": [
        "pynetdicom>=3.0.4,<4",
    ],
    # NIfTI, NRRD and MetaImage, with their geometry.
    "volumes": [
        "simpleitk>=2.5",
    ],
    # Dask, and what draws its dashboard; the certificate that keeps others out of a local cluster.
    "cluster": [
        "bokeh>=3.8",
        "cryptography",
        "distributed>=2026.7",
    ],
    # The index of the Imaging Data Commons, and what reads it. Not idc-index: kpn_tf/datasets/idc.py says why.
    "data": [
        "duckdb>=1.4",
        "idc-index-data>=25",
    ],
    "dev": [
        "build",
        "cryptography",
        "hypothesis",
        "import-linter",
        "jax",
        # The site of the documentation: prose from docs/, the API from the docstrings.
        "mkdocs-material>=9.8",
        "mkdocstrings-python>=2",
        "mypy>=2.4",
        "kserve>=0.21; sys_platform == 'linux'",
        "pytest",
        "pytest-xdist",
        "requests",
        "ruff",
        "scikit-image",
        "scipy",
        "setuptools>=77",
        # Assembles the report's WebAssembly, which a test compares with the file that is shipped.
        "wasmtime>=50",
        "websockets>=17.1",
        "wheel",
    ],
}

version = re.search(r'__version__ = "([^"]+)"', (ROOT / "kpn_tf/__init__.py").read_text(encoding="utf-8"))

setup(
    name="kpn-tf",
    version=version[1],
    description="Removes noise from low-dose CT with kernel prediction networks, on TensorFlow and Keras 3",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=PACKAGES,
    package_data={
        "kpn_tf": ["py.typed", "weights/*", "report/page/*", "node/status/*.html", "study/*.html"],
        "baselines": ["py.typed", "weights/*"],
        "export": ["py.typed"],
    },
    project_urls={
        "Paper": "https://doi.org/10.1109/ICIP42928.2021.9506679",
        "Preprint": "https://arxiv.org/abs/2105.14758",
    },
    entry_points={"console_scripts": ["kpn=kpn_tf.cli:main"]},
    install_requires=BASE,
    extras_require=EXTRAS,
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Healthcare Industry",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
