"""The volatility regression that the return network starts from."""

import numpy as np
import pytest
import torch

from models.base import N_INPUTS, with_columns
from models.lstm.lightning_module import fit_regression, mean_weights
from models.lstm.network import NetworkConfig, ReturnLSTM
from models.lstm.samples import ReturnWindows
from tests.fakes import random_walk


def test_the_regression_finds_the_volatility_of_years_of_wild_prices() -> None:
    bars = with_columns(random_walk(1000, daily_volatility=0.04), N_INPUTS)
    known = ReturnWindows([(bars, range(19, 995))], lookback=20, horizon=4).sample(1000)
    network = ReturnLSTM(NetworkConfig(lookback=20, horizon=4))

    fit_regression(network, known, mean_weights(4, decay=0.5), ridge=1e-3)

    with torch.no_grad():
        found = torch.exp(network.regressed_log_scale(known.regressors).mean(0))
    assert found.numpy() == pytest.approx(0.04 * np.sqrt([1, 2, 3, 4]), rel=0.15)
