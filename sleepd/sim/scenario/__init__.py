"""Scenarios: models, traffic and faults drawn from one seed, and the invariants that must survive them."""
