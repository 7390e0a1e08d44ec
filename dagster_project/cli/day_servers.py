"""The other end of the demonstration's campaigns: a mail server and a provider that fail on order, and who hears callbacks."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    import sqlalchemy as sa

    from kernel.delivery.listening import Heard
    from kernel.delivery.providers.simulator import Simulator

SEED = 7
# Shares of the calls. A mail server has fewer ways to fail; what it took before it fell silent nobody can ask it.
MAIL_FAULTS = {
    "rate_limited": 0.015,
    "refused": 0.01,
    "error_before": 0.005,
    "reset_before": 0.005,
    "reset_after": 0.01,
}
HTTP_FAULTS = {
    "rate_limited": 0.015, "refused": 0.005, "error_before": 0.01, "error_after": 0.02, "reset_before": 0.01,
    "reset_after": 0.02, "malformed": 0.02,
}  # fmt: skip
LATENCY_SECONDS = 0.04  # at most
CALLBACK_SECONDS = 1.5  # after the message
CALLBACKS_TWICE = 0.1  # of them


@dataclass(frozen=True, slots=True)
class Servers:
    mail: Simulator
    http: Simulator
    heard: Heard

    def taken(self) -> int:
        """Messages that were taken so far."""
        return self.mail.record.count + self.http.record.count


@contextmanager
def serving(engine: sa.Engine, mail: Path, http: Path, account: tuple[UUID, UUID]) -> Iterator[Servers]:
    """The mail server and the provider keep what they take in their folders.

    `account` is that of the provider, as the ids of its tenant and its own: callbacks are received for it.
    """
    from kernel.delivery.listening import listening
    from kernel.delivery.providers import simulator
    from kernel.delivery.providers.callbacks import Callbacks
    from kernel.delivery.providers.faults import Faults
    from kernel.delivery.providers.simulated import Simulated, SimulatedConfig

    secret = f"whsec_{b64encode(token_bytes(24)).decode()}"

    def provider(row: sa.Row[Any]) -> Simulated:
        # With a secret that only this process has: a worker that sends needs none.
        return Simulated(SimulatedConfig.model_validate(row.config), callback_secret=secret)

    with listening(engine, *account, provider) as (url, heard):
        callbacks = Callbacks(url, secret, CALLBACK_SECONDS, CALLBACKS_TWICE)
        failing = {
            "mail": Faults(SEED, MAIL_FAULTS, LATENCY_SECONDS),
            "http": Faults(SEED, HTTP_FAULTS, LATENCY_SECONDS),
        }
        with (
            simulator.serve(mail, faults=failing["mail"], mail_port=0) as by_mail,
            simulator.serve(http, faults=failing["http"], callbacks=callbacks) as by_http,
        ):
            yield Servers(by_mail, by_http, heard)
