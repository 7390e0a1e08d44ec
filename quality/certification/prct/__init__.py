"""The pre-rollout certainty test: companies whose every figure is chosen, led through the code that runs in production.

What a company is stands in `companies`, the database it lives in in `world`, one scenario per module, the proof that is
kept in `evidence`. No rule of the platform stands here: a check states what a rule must give.
"""
