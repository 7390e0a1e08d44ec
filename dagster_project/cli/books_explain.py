"""Why a bank line was decided as it was, as people read it. What there is to tell stands in `kernel.books.review.explain`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from dagster_project.cli import books_views as views

_VERDICTS = {
    "review": "waits for a person",
    "would_post": "passed every gate, and waits: lines of its part are not posted yet",
    "posted": "posted by itself",
}
_BRAKES = {
    "disputed": "the last two answers for its card and vendor name another account than the proposed one",
    "flood": "many lines came at once of a vendor that nobody has labelled",
}
_NOTHING = "nothing"
_WIDTH = 18


def text(
    told: Mapping[str, Any], names: Mapping[str, str], people: Mapping[str, str], same_as: UUID | None
) -> str:
    """What `review.explain` told of a line, the most important first. `names` are accounts by code, `people` by id;
    `same_as` is the other line where it may be one told twice.
    """
    sections = (
        _line(told),
        _proposal(told, names, people),
        _gates(told, same_as),
        _sources(told, names),
        _made_by(told),
    )
    return "\n\n".join("\n".join(lines) for each in sections if (lines := list(each)))


def _line(told: Mapping[str, Any]) -> Iterator[str]:
    yield told["description"]
    yield f"{told['date']}, {told['amount']} {told['currency']}, vendor {told['vendor'] or 'unknown'}, line {told['transaction_id']}"


def _proposal(told: Mapping[str, Any], names: Mapping[str, str], people: Mapping[str, str]) -> Iterator[str]:
    calibration = told["calibration"]
    yield _row("proposed", _account(told["proposed_account"], names))
    raw = f"{_p(calibration['uncalibrated'])} as it was blended"
    sure = (
        f"{_p(calibration['calibrated'])} calibrated, {raw}" if calibration["calibrated"] is not None else raw
    )
    asked = calibration["threshold"]
    yield _row("how sure", sure + (f"; {_p(asked)} is asked for" if asked is not None else ""))
    if other := told["transfer"]:
        yield _row("transfer", f"with line {other['with'][:8]}: both are booked as one entry")
    waited = told["label"] and told["auto_post_decision"] == "review"
    if aside := told["set_aside"]:
        who = people.get(aside["by"], aside["by"])
        yield _row("set aside", f"by {who} on {_instant(aside['at'])}: {aside['why']}")
    yield _row("verdict", "went to a person" if waited else _VERDICTS[told["auto_post_decision"]])
    if told["held_back"]:
        yield _row("held back", told["held_back"])
    if label := told["label"]:
        yield _row(
            "label",
            f"{_account(label['account'], names)}, by {people.get(label['by'], label['by'])} on {_instant(label['at'])}",
        )


def _gates(told: Mapping[str, Any], same_as: UUID | None) -> Iterator[str]:
    if told["failures"]:
        yield "Gates that do not hold"
    for gate in told["failures"]:
        for place, why in enumerate(_WHY[gate](told, same_as)):
            yield _row("" if place else gate, why)


def _cold_start(told: Mapping[str, Any], _: UUID | None) -> Iterator[str]:
    known = told["cold_start"]
    if not known["label_count"]:
        yield "nobody has labelled a line of this vendor and direction yet"
        return
    newest = f"the newest names {known['suggested_account']}"
    count = f"{known['label_count']} {'label' if known['label_count'] == 1 else 'labels'} of this vendor and direction"
    alike = "are too few or disagree" if not known["consistent"] else "do not name the proposed account"
    yield f"{count}, of which the last ones {alike}; {newest}"


def _below_threshold(told: Mapping[str, Any], _: UUID | None) -> Iterator[str]:
    calibration = told["calibration"]
    if calibration["gate"]["closed"]:
        yield f"the gate is closed: {calibration['gate']['closed']}"
    if calibration["calibrated"] is not None:
        if calibration["threshold"] is not None:
            yield f"{_p(calibration['calibrated'])} is less than {_p(calibration['threshold'])}"
    elif told["transfer"]:
        yield "no calibrated probability: a transfer is told by its two lines, and no calibrator has seen how often that is right"
    elif calibration["version"] == "none":
        yield "no calibrated probability: there was no calibrator yet"
    else:
        yield "no calibrated probability: neither rules nor a model propose this account"


def _imbalance(told: Mapping[str, Any], _: UUID | None) -> Iterator[str]:
    account = told["proposed_account"]
    yield (
        "nothing is proposed"
        if account is None
        else f"no entry can be made: account {account} is the bank account's own, or is not in use"
    )


def _anomaly(told: Mapping[str, Any], same_as: UUID | None) -> Iterator[str]:
    from kernel.books.anomaly import LIMIT

    if found := told["anomaly"]:
        z = found.get("z")
        far = "" if z is None else f": {float(z):.1f} robust deviations, {LIMIT:g} are usual at most"
        yield f"{found['why']}{far}" + (f": line {views.line(same_as)}" if same_as else "")
    if told["brake"]:
        yield f"brake, {told['brake']}: {_BRAKES[told['brake']]}"


def _rule_conflict(told: Mapping[str, Any], _: UUID | None) -> Iterator[str]:
    accounts = sorted({account for _, account, *_ in told["rules"]["hits"]})
    yield f"rules that count the same name {' and '.join(accounts)}"


def _budget_fallback(told: Mapping[str, Any], _: UUID | None) -> Iterator[str]:
    yield "the budget for language models is used up: nothing is posted by itself"


_WHY = {
    "cold_start": _cold_start, "below_threshold": _below_threshold, "imbalance": _imbalance,
    "budget_fallback": _budget_fallback, "anomaly": _anomaly, "rule_conflict": _rule_conflict,
}  # fmt: skip


def _sources(told: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[str]:
    yield "What speaks for which account"
    rules, model = told["rules"], told["model"]
    for place, (rule, account, *_) in enumerate(rules["hits"]):
        said = f"{rule if rule.startswith('global:') else rule[:8]}: {_account(account, names)}"
        yield _row("" if place else "rules", said + (", decides" if rule == rules["decided"] else ""))
    if not rules["hits"]:
        yield _row("rules", "none is about this line")
    if model["account"] is None:
        yield _row("model", "there was none, or it has nothing to say")
    else:
        new = "; the vendor was new to it" if model["new_vendor"] else ""
        yield _row("model", _top(model["top"], names) + new)
    yield _row("blended", _top(told["blend"]["top"], names) or _NOTHING)
    if told["confidence"] is not None:
        yield _row(
            "second stage", f"{_p(told['confidence'])} by how often it was right for this card and vendor"
        )
    if answer := told["llm"]:
        yield _row("language model", f"{answer['model']} answered {_account(answer['account'], names)}")


def _made_by(told: Mapping[str, Any]) -> Iterator[str]:
    versions, calibration = told["versions"], told["calibration"]
    yield _row("decision", f"{told['decision']} of {_instant(told['timestamp'])}, in run {told['run_id']}")
    named = {
        "rules": versions["ruleset"], "model": told["model"]["version"], "calibrator": calibration["version"],
        "certificate": calibration["gate"]["certificate"], "settings": versions["config"],
    }  # fmt: skip
    yield _row("versions", ", ".join(f"{name} {value or 'none'}" for name, value in named.items()))


def _row(name: str, said: str) -> str:
    return f"  {name:<{_WIDTH}}{said}"


def _account(code: str | None, names: Mapping[str, str]) -> str:
    return _NOTHING if code is None else f"{code} {names.get(code, '')}".rstrip()


def _top(top: list[list[Any]], names: Mapping[str, str]) -> str:
    return ", ".join(f"{_account(account, names)} {_p(p)}" for account, p in top if p >= 0.0005)


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _instant(value: str) -> str:
    return f"{value[:10]} {value[11:16]} UTC"
