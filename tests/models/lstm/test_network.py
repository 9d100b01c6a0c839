"""Where the corrections of the LSTMs count."""

import pytest
import torch
from torch import Tensor

from models.lstm.network import FAMILIAR, N_CHANNELS, N_REGRESSORS, RARE, Inputs, NetworkConfig, ReturnLSTM

HALFWAY = (RARE + FAMILIAR) / 2


@pytest.fixture
def network() -> ReturnLSTM:
    """Its corrections are large, and its regression is flat."""
    torch.manual_seed(0)
    network = ReturnLSTM(NetworkConfig(lookback=20, horizon=3))
    for head in network.heads:
        assert isinstance(head, torch.nn.Linear)
        torch.nn.init.normal_(head.weight[:, : network.config.hidden], std=1.0)
        torch.nn.init.zeros_(head.weight[:, network.config.hidden :])  # else a rare regressor would change them
    return network.eval()


def correction(network: ReturnLSTM, regressor: float, at: int = 0) -> Tensor:
    """What the LSTMs add with one regressor so many standard deviations away, (horizon,)."""
    torch.manual_seed(1)
    sessions = torch.randn(1, 19, N_CHANNELS)
    regressors = torch.zeros(1, N_REGRESSORS)
    regressors[0, at] = regressor
    with torch.no_grad():
        return (network.log_scale(Inputs(regressors, sessions)) - network.regressed_log_scale(regressors))[0]


@pytest.mark.parametrize("regressor", [RARE, -RARE])
def test_corrections_count_whole_where_inputs_are_common(network: ReturnLSTM, regressor: float) -> None:
    assert correction(network, 0.0).abs().min() > 0.01
    assert torch.allclose(correction(network, regressor), correction(network, 0.0))


@pytest.mark.parametrize("at", [0, N_REGRESSORS - 1])
@pytest.mark.parametrize("sign", [1, -1])
def test_corrections_fade_where_one_input_is_rare(network: ReturnLSTM, sign: int, at: int) -> None:
    halfway, beyond = (correction(network, sign * regressor, at) for regressor in (HALFWAY, FAMILIAR))

    assert torch.allclose(halfway, correction(network, 0.0) / 2, atol=1e-6)
    assert torch.allclose(beyond, torch.zeros(3))
    assert torch.allclose(correction(network, sign * 100.0, at), torch.zeros(3))
