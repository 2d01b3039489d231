"""Views over results; every number in them names the results behind it."""
