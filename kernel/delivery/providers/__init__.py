"""Adapters of providers: one file each, and one line in `registry`. What delivery does with their answers stands above."""
