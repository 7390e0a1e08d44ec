"""The certification of delivery: real worker processes against a provider that keeps every effect, killed and stopped.

What each scenario must give stands in its module; how a certification is run and told, in `run`.
"""
