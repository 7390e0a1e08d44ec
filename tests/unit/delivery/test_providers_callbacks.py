"""Callbacks: taken from the provider alone, near their time, and read into events."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest

from kernel.delivery.providers import signatures, twilio
from kernel.delivery.providers.base import BadCallback
from kernel.delivery.providers.registry import PROVIDERS
from models.delivery import DELIVERY_STATUSES

NOW = datetime(2021, 2, 25, 4, 4, 10, tzinfo=UTC)
KEY = base64.b64encode(b"a key of callbacks").decode()


def provider(name: str, callback_secret: str = "", **config: object):
    kind = PROVIDERS[name]
    return kind(kind.Config.model_validate(config), secret="12345", callback_secret=callback_secret)


# Resend ----------------------------------------------------------------------------------------------------------


def resend_event(kind: str = "email.delivered", tags: object = None) -> bytes:
    tags = [{"name": "reference", "value": "r1"}] if tags is None else tags
    data = {"email_id": "m1", "to": ["ann@example.org"], "tags": tags}
    return json.dumps({"type": kind, "created_at": "2021-02-25T04:04:00.000Z", "data": data}).encode()


def svix(body: bytes, at: datetime = NOW, secret: str = f"whsec_{KEY}", before: str = "") -> dict[str, str]:
    timestamp = str(int(at.timestamp()))
    signed = signatures.svix(secret, "msg_1", timestamp, body)
    return {"Svix-Id": "msg_1", "Svix-Timestamp": timestamp, "Svix-Signature": f"{before}v1,{signed}"}


def test_a_signature_is_that_of_the_published_example():
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signed = signatures.svix(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signed == "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("kind", ["delivered", "opened", "clicked", "bounced", "complained"])
def test_an_event_of_resend_names_the_message_and_our_reference(kind: str):
    body = resend_event(f"email.{kind}")
    (event,) = provider("resend", f"whsec_{KEY}").events(svix(body), body, NOW)
    assert (event.event_id, event.kind, event.message_id, event.reference) == ("msg_1", kind, "m1", "r1")
    assert event.address == "ann@example.org"
    assert event.occurred_at == datetime(2021, 2, 25, 4, 4, tzinfo=UTC)
    assert kind in DELIVERY_STATUSES


def test_tags_may_come_as_an_object():
    body = resend_event(tags={"reference": "r1"})
    assert provider("resend", f"whsec_{KEY}").events(svix(body), body, NOW)[0].reference == "r1"


@pytest.mark.parametrize("kind", ["email.sent", "email.delivery_delayed", "contact.created", None])
def test_other_events_of_resend_are_none_of_ours(kind: str | None):
    body = resend_event(kind)
    assert provider("resend", f"whsec_{KEY}").events(svix(body), body, NOW) == []


def test_one_right_signature_among_several_is_enough():
    body = resend_event()
    headers = svix(body, before="v1,bm8= v2,bm8= v1a,bm8= ")
    assert provider("resend", f"whsec_{KEY}").events(headers, body, NOW)


@pytest.mark.parametrize("late", [timedelta(minutes=5, seconds=1), -timedelta(minutes=5, seconds=1)])
def test_a_callback_far_from_its_time_is_refused(late: timedelta):
    body = resend_event()
    with pytest.raises(BadCallback, match="too old"):
        provider("resend", f"whsec_{KEY}").events(svix(body), body, NOW + late)


@pytest.mark.parametrize(
    "change",
    [
        {"Svix-Signature": ""},
        {"Svix-Signature": "v1,"},
        {"Svix-Signature": "v1,ä"},
        {"Svix-Signature": "v2," + signatures.svix(f"whsec_{KEY}", "msg_1", "1614225850", resend_event())},
        {"Svix-Id": "msg_2"},
        {"Svix-Id": ""},
        {"Svix-Timestamp": "1614225851"},
        {"Svix-Timestamp": ""},
        {"Svix-Timestamp": "9" * 30},
        {"Svix-Timestamp": "nan"},
    ],
)
def test_a_callback_that_was_changed_is_refused(change: dict[str, str]):
    body = resend_event()
    assert provider("resend", f"whsec_{KEY}").events(svix(body), body, NOW)
    with pytest.raises(BadCallback):
        provider("resend", f"whsec_{KEY}").events(svix(body) | change, body, NOW)
    with pytest.raises(BadCallback, match="wrong"):
        provider("resend", f"whsec_{KEY}").events(svix(body), body + b" ", NOW)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": 1}', b"\xff", b"[" * 100_000])
def test_a_signed_callback_that_is_no_event_is_refused(body: bytes):
    with pytest.raises(BadCallback):
        provider("resend", f"whsec_{KEY}").events(svix(body), body, NOW)


def test_without_a_secret_every_callback_is_refused():
    body = resend_event()
    with pytest.raises(BadCallback):
        provider("resend").events(svix(body, secret=""), body, NOW)
    with pytest.raises(BadCallback):
        provider("vapi", assistant_id="a", phone_number_id="p").events({"X-Vapi-Secret": ""}, b"{}", NOW)
    with pytest.raises(BadCallback):
        provider("twilio", account_sid="AC0123").events({}, b"", NOW)
    for name, config in {
        "memory": {},
        "file": {"folder": "/x"},
        "webhook": {"url": "http://h/"},
        "smtp": {"host": "h"},
    }.items():
        with pytest.raises(BadCallback):
            provider(name, **config).events({}, b"", NOW)


# Twilio ----------------------------------------------------------------------------------------------------------

CALLBACK = "https://revenue.example/callbacks/sms"


def test_a_signature_of_twilio_is_that_of_the_published_example():
    fields = [
        ("CallSid", "CA1234567890ABCDE"),
        ("Caller", "+12349013030"),
        ("Digits", "1234"),
        ("From", "+12349013030"),
        ("To", "+18005551212"),
    ]
    signed = twilio.signature("12345", "https://mycompany.com/myapp.php?foo=1&bar=2", fields)
    assert signed == "0/KCTR6DLpKmkAf8muzZqo1nDgQ="


def twilio_callback(form: bytes, query: str = "reference=r1", token: str = "12345") -> dict[str, str]:
    fields = [tuple(pair.split("=")) for pair in form.decode().replace("%2B", "+").split("&")]
    signed = twilio.signature(token, f"{CALLBACK}?{query}", fields)
    return {":path": f"/anything?{query}", "X-Twilio-Signature": signed}


@pytest.mark.parametrize(
    ("status", "kind"), [("delivered", "delivered"), ("undelivered", "bounced"), ("failed", "bounced")]
)
def test_a_status_of_twilio_names_the_message_and_our_reference(status: str, kind: str):
    form = f"MessageSid=SM1&MessageStatus={status}&To=%2B15551234567".encode()
    account = provider("twilio", account_sid="AC0123", callback_url=CALLBACK)
    first, again = (account.events(twilio_callback(form), form, NOW)[0] for _ in range(2))
    assert (first.kind, first.message_id, first.reference) == (kind, "SM1", "r1")
    assert (first.address, first.event_id) == ("+15551234567", again.event_id)


@pytest.mark.parametrize("status", ["queued", "sending", "sent", ""])
def test_a_status_on_the_way_is_no_event(status: str):
    form = f"MessageSid=SM1&MessageStatus={status}".encode()
    account = provider("twilio", account_sid="AC0123", callback_url=CALLBACK)
    assert account.events(twilio_callback(form), form, NOW) == []


def test_who_tells_twilio_to_stop_has_unsubscribed():
    account = provider("twilio", account_sid="AC0123", callback_url=CALLBACK)
    for form, query in (
        (b"MessageSid=SM1&From=%2B15551234567&To=%2B15550000000&OptOutType=STOP", ""),
        (b"MessageSid=SM1&MessageStatus=failed&ErrorCode=21610&To=%2B15551234567", "reference=r1"),
    ):
        headers = twilio_callback(form, query)
        if not query:
            fields = [tuple(pair.split("=")) for pair in form.decode().replace("%2B", "+").split("&")]
            headers = {"X-Twilio-Signature": twilio.signature("12345", CALLBACK, fields)}
        (event,) = account.events(headers, form, NOW)
        assert (event.kind, event.address) == ("unsubscribed", "+15551234567")


def test_a_callback_of_twilio_that_was_changed_is_refused():
    form = b"MessageSid=SM1&MessageStatus=delivered"
    account = provider("twilio", account_sid="AC0123", callback_url=CALLBACK)
    for headers, body in (
        (twilio_callback(form) | {":path": "/anything?reference=r2"}, form),
        (twilio_callback(form), form.replace(b"SM1", b"SM2")),
        (twilio_callback(form, token="other"), form),
        ({}, form),
        (twilio_callback(form), b"\xff=%ff"),
    ):
        with pytest.raises(BadCallback):
            account.events(headers, body, NOW)


# Vapi ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"type": "status-update", "status": "ringing"}, "ringing"),
        ({"type": "status-update", "status": "in-progress"}, "answered"),
        ({"type": "status-update", "status": "ended", "endedReason": "voicemail"}, "voicemail"),
        ({"type": "end-of-call-report", "endedReason": "customer-did-not-answer"}, "no_answer"),
        ({"type": "end-of-call-report", "endedReason": "customer-busy"}, "no_answer"),
        ({"type": "end-of-call-report", "endedReason": "customer-ended-call"}, None),
        ({"type": "status-update", "status": "queued"}, None),
        ({"type": "transcript"}, None),
    ],
)
def test_a_message_of_vapi_tells_what_became_of_the_call(message: dict[str, str], kind: str | None):
    call = {"id": "c1", "metadata": {"reference": "r1"}, "customer": {"number": "+15551234567"}}
    body = json.dumps({"message": message | {"call": call, "timestamp": 1614225840000}}).encode()
    account = provider("vapi", "hush", assistant_id="a", phone_number_id="p")
    events = account.events({"x-vapi-secret": "hush"}, body, NOW)
    assert [event.kind for event in events] == ([kind] if kind else [])
    for event in events:
        assert (event.message_id, event.reference, event.address) == ("c1", "r1", "+15551234567")
        assert event.occurred_at == datetime(2021, 2, 25, 4, 4, tzinfo=UTC)


@pytest.mark.parametrize("given", ["", "Hush", "hush ", "hüsh"])
def test_a_callback_of_vapi_with_another_secret_is_refused(given: str):
    account = provider("vapi", "hush", assistant_id="a", phone_number_id="p")
    with pytest.raises(BadCallback, match="wrong"):
        account.events({"X-Vapi-Secret": given}, b'{"message": {"call": {}}}', NOW)


def test_nothing_of_a_callback_is_what_no_database_keeps():
    body = resend_event(tags={"reference": "a\0b"}).replace(b'"m1"', b'"\\ud800"').replace(b"ann", b"\\u0000")
    (event,) = provider("resend", f"whsec_{KEY}").events(svix(body), body, NOW)
    assert (event.message_id, event.reference, event.address) == (None, None, None)
    assert "\\u0000" not in json.dumps(event.payload)
