"""Statements of banks become transactions: reading them, telling one line from another, and writing them once."""
