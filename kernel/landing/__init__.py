"""How facts enter the spine: landing contracts, mappings, reading files, loading rows."""
