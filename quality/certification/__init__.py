"""Proofs that are run and kept: frozen components, generated specifications, the pre-rollout certainty test."""
