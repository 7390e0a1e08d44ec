"""Delivery: campaign run, job, outbox item, attempt. Nobody is contacted twice, and nothing is lost in silence."""
