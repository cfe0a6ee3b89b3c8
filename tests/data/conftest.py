"""A prepared data set that several tests read."""

from pathlib import Path

import pytest

from .builders import prepare_digits


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits, prepared by tensorflow-datasets as array_record, in three shards."""
    pytest.importorskip("tensorflow_datasets")
    directory = tmp_path_factory.mktemp("tfds")
    prepare_digits(directory, num_shards=3)
    return directory
