"""Silences the warnings about changes in pandas 4, for the two libraries here that raise them."""

import warnings


def ignore_pandas_4_warnings() -> None:
    """Call after importing yfinance or exchange_calendars and before entering them.

    Their users cannot act on these warnings. The filter is by category alone,
    because pandas attributes some to its own modules; it comes first, because
    yfinance sets one to the contrary; and it is set for good, because
    ``warnings.catch_warnings`` restores the filters of the whole process and is
    not safe with threads. Imports pandas.
    """
    from pandas.errors import Pandas4Warning

    ignored = ("ignore", None, Pandas4Warning, None, 0)
    if warnings.filters[:1] != [ignored]:  # inserting it again would take it out for an instant
        warnings.simplefilter("ignore", category=Pandas4Warning)
