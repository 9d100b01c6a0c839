"""Models that are fitted in closed form or by a short optimisation, without a network."""
