"""Who works at a sample company and how its subsystems are set when it signs up: the same for all of them."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_DNS, uuid5

_PEOPLE = (("olga.owner", "owner"), ("ana.approver", "approver"), ("max.member", "member"))
SETTINGS: dict[str, dict[str, Any]] = {
    "crm": {
        "sequence_delay_days": 4,
        "max_touches": 6,
        "follow_up_sla_hours": 24,
        "auto_assign": False,
        "priority_score_threshold": 60,
    },
    "pricing": {
        "discount_max_pct": 25,
        "tier_threshold": [10, 50, 200],
        "promo_code_enabled": True,
        "trial_days": 14,
    },
    "routing": {
        "round_robin_enabled": False,
        "capacity_per_rep": 60,
        "territory_rules": {"default": "any"},
        "overflow_queue": "inbound-pool",
    },
    "content": {
        "template_id": "welcome-1",
        "variant_weights": {"welcome-1": 100},
        "subject_line": "A word about your trial",
        "cta_text": "Book a call",
    },
}


def members(slug: str) -> list[dict[str, str]]:
    """user_id, name and role of each; a person works for one company only."""
    return [
        {"user_id": str(uuid5(NAMESPACE_DNS, f"{name}.{slug}.example")), "name": name, "role": role}
        for name, role in _PEOPLE
    ]
