"""The same input gives the same bytes: decided twice, and once more from what the cycle has stored."""

from __future__ import annotations

import hashlib
from datetime import date
from uuid import UUID

from kernel import tenancy
from kernel.decisions import bundle, decide
from kernel.decisions.contract import KernelError, KernelInput, KernelOutput, Trigger, canonical
from kernel.decisions.weights import Weights
from quality.certification.prct.checks import Checks
from quality.certification.prct.companies import AS_OF, DEGRADED, FAILING, HEALTHY, Company
from quality.certification.prct.world import World

_CYCLE = UUID(int=0xC1)


def replay(world: World, checks: Checks) -> None:
    companies = {name: company.but(f"prct-replay-{name}") for name, company in _THREE.items()}
    world.found(*companies.values())
    world.go(0)
    asked = {name: _given(world, company, AS_OF) for name, company in companies.items()}
    again = {name: _given(world, company, AS_OF) for name, company in companies.items()}
    world.cycle(*companies.values())
    for name, company in companies.items():
        given, weights = asked[name]
        first = _decided(world, given, weights, _CYCLE)
        repeated = _decided(world, again[name][0], weights, _CYCLE)
        checks.equal(f"{name}.input", "read twice, the input is the same", True, given == again[name][0])
        digest = _digest(first)
        checks.equal(f"{name}.twice", "decided twice, every byte is the same", digest, _digest(repeated))
        stored = world.output(company)
        replayed = _decided(world, given, weights, stored.cycle_id)
        checks.equal(
            f"{name}.stored", "what is stored is what is decided again", True, canonical(stored) == replayed
        )
        round_trip = canonical(KernelOutput.model_validate_json(first))
        checks.equal(
            f"{name}.round-trip", "read from its own text it is the same", digest, _digest(round_trip)
        )
        reversed_input = given.model_copy(
            update={
                "metrics": given.metrics[::-1],
                "channels": given.channels[::-1],
                "settings": given.settings[::-1],
            }
        )
        shuffled = _decided(world, reversed_input, weights, _CYCLE)
        checks.equal(f"{name}.order", "the order of what is read plays no part", digest, _digest(shuffled))


_THREE = {"a": HEALTHY, "b": DEGRADED, "c": FAILING}


def _digest(text: str) -> str:
    """The same in every run of the same release, so that proofs of two machines can be compared."""
    return hashlib.sha256(text.encode()).hexdigest()


def _given(world: World, company: Company, as_of: date) -> tuple[KernelInput, Weights]:
    trigger = Trigger(type="scheduled", source="prct", triggered_at=world.at)
    with world.engine.begin() as connection:
        tenancy.service(connection)
        found = bundle.load(connection, [company.id], world.at, as_of, trigger=trigger)[company.id]
        if isinstance(found, KernelError):
            raise found
        return found, bundle.weights(connection, [company.id], world.at)[company.id]


def _decided(world: World, given: KernelInput, weights: Weights, cycle_id: UUID) -> str:
    return canonical(decide.decide(given, world.at, cycle_id=cycle_id, weights=weights))
