"""E1 and V1: one real email and one real call, to somebody who has agreed to it, shown by the provider's signed callback.

Which account, which person and where callbacks arrive stands in a file that whoever certifies names.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kernel.delivery import send
from kernel.delivery.listening import listening
from kernel.delivery.providers import registry
from kernel.delivery.providers.base import Provider
from kernel.errors import RefusedError
from models.delivery import ACCEPTED_STATUSES, OPEN_ITEM_STATUSES
from quality.certification.delivery.world import World
from quality.certification.prct.checks import Checks

Channel = Literal["email", "voice"]
# Nobody is reached through these.
_UNREAL = ("simulator", "memory", "file")
_PROVES = ("delivered", "opened", "clicked", "answered", "voicemail")
_REFUTES = ("bounced", "complained", "no_answer")


class Account(BaseModel):
    """An account with a provider, and the one person who agreed to be contacted through it for this.

    Callbacks are taken on `port` of this machine; the address that the provider was given has to lead there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    channel: Channel
    provider: str
    sender: str
    secret_env: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    to: str
    port: int = Field(ge=0, le=65535)
    wait_seconds: float = Field(300, gt=0, le=86400)

    @property
    def endpoint(self) -> str | None:
        """The host that is called."""
        config = registry.PROVIDERS[self.provider].Config.model_validate(self.config)
        return urlsplit(getattr(config, "base_url", getattr(config, "url", ""))).netloc or None


def read(file: Path, channel: Channel) -> Account:
    """An account from a JSON file. Raises RefusedError naming the first key that is wrong."""
    try:
        return Account.model_validate({"channel": channel} | json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise RefusedError(f"{file.name} cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise RefusedError(f"{file.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (TypeError, ValueError):
        raise RefusedError(f"{file.name} is no JSON object: see docs/how-to/certify.md") from None


def live(world: World, checks: Checks) -> None:
    """Without an account nothing is sent, and nothing is known."""
    for channel, what in (
        ("email", "a real email arrived, by the provider's signed word"),
        ("voice", "a real call was made, by the provider's signed word"),
    ):
        checks.equal(channel, what, "PASS", _shown(world, channel))


def _shown(world: World, channel: str) -> str:
    account = world.live.get(channel)
    if account is None:
        return f"NOT_RUN: name a file in REVENUE_OS_LIVE_{channel.upper()}, see docs/how-to/certify.md"
    if account.provider in _UNREAL:
        return f"FAIL: nobody is reached through {account.provider}: name an account with a real provider"
    try:
        provider = registry.make(account)
    except RefusedError as error:
        return f"FAIL: {error}"
    try:
        if not provider.capabilities.callback:
            return "FAIL: the account takes no signed callbacks, which alone can show it: name their secret"
        return _sent(world, account, provider)
    except RefusedError as error:
        return f"FAIL: {error}"
    finally:
        provider.close()


def _sent(world: World, account: Account, provider: Provider) -> str:
    begun, measured = time.monotonic(), world.measured.setdefault("live", {})
    launched = world.launch_live(account)
    worker = send.Worker(world.engine, "live", lambda _: provider, parallel=1)
    callbacks = listening(
        world.engine, launched.tenant_id, launched.account_id, lambda _: provider, account.port
    )
    with callbacks as (_, heard):
        while True:
            send.work(worker)
            item = world.asked(launched, "outcomes")[0]
            kinds = [event.kind for event in world.asked(launched, "proofs")]
            is_over = time.monotonic() > begun + account.wait_seconds
            is_settled = bool({*kinds} & {*_PROVES, *_REFUTES})
            is_refused = item.status not in (*ACCEPTED_STATUSES, *OPEN_ITEM_STATUSES, "unknown")
            if is_over or is_settled or is_refused:
                break
            time.sleep(0.2)
    measured[account.channel] = {
        "provider": account.provider, "endpoint": account.endpoint, "message": item.provider_message_id,
        "status": item.status, "events": kinds, "callbacks_refused": heard.refused,
        "seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip
    if item.status in ACCEPTED_STATUSES and {*kinds} & {*_PROVES} and not {*kinds} & {*_REFUTES}:
        return "PASS"
    told = f": {item.error}" if item.error else ""
    came = f"the callbacks said {', '.join(kinds)}" if kinds else "no signed callback came"
    return f"FAIL: the message stands as {item.status}{told}, and {came} in {account.wait_seconds:g} s"
