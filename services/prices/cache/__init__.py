"""A price source with a cache, a memory for failures and a circuit breaker."""

from services.prices.cache.source import CachedSource, Fetcher

__all__ = ["CachedSource", "Fetcher"]
