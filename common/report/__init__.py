"""From records to ``results.json``, the tables of the paper pages, the index and an HTML page."""
