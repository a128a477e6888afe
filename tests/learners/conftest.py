"""What every test of `learners` runs under."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Train on one thread, as a round does by default: on toy sizes more threads only wait for each other."""
    torch.set_num_threads(1)
