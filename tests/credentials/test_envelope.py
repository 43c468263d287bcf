"""Envelopes: checked by an independent COSE implementation, and hostile ones refused."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import canonical
from agents.credentials import envelope, logbook
from agents.credentials.envelope import EXTERNAL_DATA
from agents.credentials.keys import PublicKey
from agents.credentials.passport import Passport
from agents.credentials.results import Opening, ReportEntry
from agents.credentials.trailpoint import Checkpoint
from agents.credentials.visits import Certificate, CloneStatement, Commit, Receipt, Visit
from agents.errors import CredentialError, MalformedCredential
from tests.credentials.journeys import HOUR, NOW, Journey, key, public, state
from tests.thorough import examples

cose = pytest.importorskip("pycose.messages")
algorithms = pytest.importorskip("pycose.algorithms")
headers = pytest.importorskip("pycose.headers")
cose_keys = pytest.importorskip("pycose.keys")


def statements() -> dict[str, tuple[type[Any], bytes]]:
    """One of each kind, with its class."""
    journey = Journey.via("alpha", "beta")
    journey.report("temperature", b"21.5")
    journey.hop("alpha")
    clone = logbook.sign_clone(journey.point, 0, canonical.digest(state(1)), journey.head, NOW, key("alpha"))
    certificate = logbook.sign_certificate(public("guest"), NOW, NOW + HOUR, "guest", key("certifier"))
    checkpoint = logbook.sign_checkpoint(journey.point, NOW, key("home"))
    return {
        "passport": (Passport, journey.passport.envelope),
        "visit": (Visit, journey.links[0]),
        "receipt": (Receipt, journey.links[1]),
        "commit": (Commit, journey.links[2]),
        "clone": (CloneStatement, clone.envelope),
        "certificate": (Certificate, certificate.envelope),
        "checkpoint": (Checkpoint, checkpoint.envelope),
        "results": (Opening, journey.entries[0]),
        "entry": (ReportEntry, journey.entries[1]),
    }


STATEMENTS = statements()


@pytest.mark.parametrize("kind", STATEMENTS)
def test_an_independent_implementation_verifies_every_kind(kind: str) -> None:
    data = STATEMENTS[kind][1]
    outer = cbor2.loads(data)
    assert outer.tag == 18
    protected, unprotected, payload, signature = outer.value
    # CoseMessage.decode would do this, but does not know that newer cbor2 gives immutable values inside tags.
    message = cose.Sign1Message.from_cose_obj([protected, dict(unprotected), payload, signature], True)
    assert message.phdr[headers.Algorithm] is algorithms.EdDSA
    assert message.phdr[headers.ContentType] == f"application/vnd.portcall.{kind}+cbor"
    message.key = cose_keys.OKPKey(crv="ED25519", x=message.phdr[headers.KID])
    message.external_aad = EXTERNAL_DATA
    assert message.verify_signature()
    message.external_aad = b""
    assert not message.verify_signature()


def by_another(kind: str, payload: bytes, external: bytes = EXTERNAL_DATA) -> bytes:
    """A statement that the independent implementation signs."""
    signer = key("owner")
    message = cose.Sign1Message(
        phdr={
            headers.Algorithm: algorithms.EdDSA,
            headers.ContentType: f"application/vnd.portcall.{kind}+cbor",
            headers.KID: signer.public.raw,
        },
        payload=payload,
        external_aad=external,
        key=cose_keys.OKPKey(crv="ED25519", x=signer.public.raw, d=signer.seed),
    )
    return bytes(message.encode())


def test_we_verify_what_an_independent_implementation_signs() -> None:
    certificate = Certificate(public("guest"), NOW, NOW + HOUR, "guest")
    data = by_another("certificate", canonical.encode(certificate.payload()))
    signed = envelope.verify(Certificate, data)
    assert signed.body == certificate
    # Ed25519 is deterministic and so is the encoding: two implementations make the same bytes.
    assert data == envelope.sign(certificate, key("owner")).envelope


def test_a_signature_for_another_protocol_is_refused() -> None:
    payload = canonical.encode(Certificate(public("guest"), NOW, NOW + HOUR, "guest").payload())
    for external in (b"", b"portcall/2"):
        with pytest.raises(CredentialError) as caught:
            envelope.verify(Certificate, by_another("certificate", payload, external))
        assert caught.value.code == "signature"


@pytest.mark.parametrize("kind", STATEMENTS)
def test_every_kind_survives_and_is_no_other(kind: str) -> None:
    cls, data = STATEMENTS[kind]
    signed = envelope.verify(cls, data)
    assert type(signed.body) is cls
    assert signed.digest == canonical.digest(data)
    opened = envelope.peek(data)
    assert (opened.kind, opened.signer) == (kind, signed.signer)
    assert canonical.encode(signed.body.payload()) == cbor2.loads(data).value[2]
    for other, (foreign, _) in STATEMENTS.items():
        if other != kind:
            with pytest.raises(MalformedCredential, match="was expected"):
                envelope.verify(foreign, data)


@pytest.mark.parametrize("kind", STATEMENTS)
def test_a_field_more_or_less_is_refused(kind: str) -> None:
    cls, data = STATEMENTS[kind]
    payload = cbor2.loads(cbor2.loads(data).value[2])
    variants = [{**payload, 99: 0}, {}, [], 0, {**payload, "x": 1}]
    variants += [{k: v for k, v in payload.items() if k != missing} for missing in payload]
    variants += [{**payload, k: None} for k in payload] + [{**payload, k: [b"", {}]} for k in payload]
    for variant in variants:
        if kind == "clone" and variant == payload:
            continue
        try:
            bent = by_another(kind, canonical.encode(variant))
        except Exception:
            bent = by_another(kind, cbor2.dumps(variant))
        if isinstance(variant, dict) and 16 in payload.keys() - variant.keys():
            continue
        with pytest.raises(CredentialError):
            envelope.verify(cls, bent)


def test_only_the_expected_signer_will_do() -> None:
    data = STATEMENTS["visit"][1]
    envelope.verify(Visit, data, public("home"))
    with pytest.raises(CredentialError) as caught:
        envelope.verify(Visit, data, public("mallory"))
    assert caught.value.code == "signer"


def raw(protected: object, unprotected: object, payload: object, signature: object, tag: int = 18) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(tag, [protected, unprotected, payload, signature]))


def test_hostile_envelopes() -> None:
    good = cbor2.loads(STATEMENTS["visit"][1]).value
    protected, _, payload, signature = good
    header = cbor2.loads(protected)
    cases = [
        b"",
        b"\xd2",
        b"\xd2\x84",
        b"\xd2" * 1000,
        b"\xd2" + b"\x81" * 1000,
        b"\xd2\x9b" + b"\xff" * 8,
        b"\xd2\x5b" + b"\xff" * 8,
        b"\xd2\x9f\xff",
        raw(*good, tag=98),
        raw(*good)[1:],
        raw(*good) + b"\0",
        raw(protected, {4: b"x"}, payload, signature),
        raw(protected, [], payload, signature),
        raw(b"", {}, payload, signature),
        raw(protected, {}, None, signature),
        raw(protected, {}, payload, signature[:-1]),
        raw(protected, {}, payload, signature + b"\0"),
        raw(protected, {}, payload, None),
        raw(cbor2.dumps({**header, 1: -7}, canonical=True), {}, payload, signature),
        raw(cbor2.dumps({**header, 2: [99]}, canonical=True), {}, payload, signature),
        raw(cbor2.dumps({1: -8, 4: header[4]}, canonical=True), {}, payload, signature),
        raw(cbor2.dumps({**header, 3: 60}, canonical=True), {}, payload, signature),
        raw(cbor2.dumps({**header, 3: "application/json"}, canonical=True), {}, payload, signature),
        raw(cbor2.dumps({**header, 3: header[3] + "+cbor"}, canonical=True), {}, payload, signature),
        raw(
            cbor2.dumps({**header, 3: header[3].replace("visit", "vi\x1b[2J")}, canonical=True),
            {},
            b"x",
            signature,
        ),
        raw(cbor2.dumps({**header, 4: b"short"}, canonical=True), {}, payload, signature),
        raw(cbor2.dumps(dict(reversed(header.items()))), {}, payload, signature),
        raw(cbor2.dumps([header]), {}, payload, signature),
        bytes(envelope.MAX_STATEMENT_BYTES + 1),
    ]
    for data in cases:
        with pytest.raises(MalformedCredential) as caught:
            envelope.verify(Visit, data)
        assert str(caught.value).isprintable()


def test_a_payload_that_is_not_deterministic_is_refused() -> None:
    certificate = Certificate(public("guest"), NOW, NOW + HOUR, "guest")
    backwards = cbor2.dumps(dict(reversed(certificate.payload().items())))
    assert backwards != canonical.encode(certificate.payload())
    with pytest.raises(MalformedCredential):
        envelope.verify(Certificate, by_another("certificate", backwards))


def test_bombs_are_refused_quickly() -> None:
    nested = b"\x81" * 30_000 + b"\0"
    many = b"\x9a\x00\x01\x00\x00" + b"\0" * 65536
    for payload in (nested, many):
        with pytest.raises(MalformedCredential):
            envelope.verify(Certificate, by_another("certificate", payload))


@pytest.mark.parametrize("label", ["\x1b[2J", "a\nb", "\u202e", "", "x" * 65])
def test_texts_cannot_write_on_terminals(label: str) -> None:
    certificate = Certificate(public("guest"), NOW, NOW + HOUR, label)
    data = envelope.sign(certificate, key("certifier")).envelope
    with pytest.raises(MalformedCredential, match="printable"):
        envelope.verify(Certificate, data)


def test_small_order_and_other_odd_keys_sign_nothing() -> None:
    # The identity, points of order 2, 4 and 8, and y coordinates that are not reduced.
    odd = [
        bytes([1]) + bytes(31),
        bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        bytes(32),
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        b"\xff" * 32,
    ]
    for point in odd:
        odd_key = PublicKey(point)
        for signature in (bytes(64), point + bytes(32), b"\xff" * 64):
            assert not odd_key.verify(signature, b"message")
        with pytest.raises(CredentialError):
            odd_key.box()


def test_a_signature_has_one_spelling() -> None:
    """S + L would be a second valid signature if the check of RFC 8032, section 5.1.7, were left out."""
    order = 2**252 + 27742317777372353535851937790883648493
    signature = key("owner").sign(b"message")
    other = int.from_bytes(signature[32:], "little") + order
    twin = signature[:32] + other.to_bytes(32, "little")
    assert public("owner").verify(signature, b"message")
    assert not public("owner").verify(twin, b"message")
    assert not public("owner").verify(signature[:-1], b"message")


@settings(max_examples=examples(60))
@given(st.binary(max_size=300))
def test_noise_is_refused_with_a_declared_error(data: bytes) -> None:
    for candidate in (data, b"\xd2" + data, b"\xd2\x84" + data):
        with pytest.raises(CredentialError):
            envelope.verify(Visit, candidate)


@settings(max_examples=examples(60))
@given(st.sampled_from(sorted(STATEMENTS)), st.data())
def test_statements_with_noise_in_the_payload(kind: str, data: st.DataObject) -> None:
    """Signed garbage: the signature holds, the fields do not."""
    cls, good = STATEMENTS[kind]
    payload = cbor2.loads(cbor2.loads(good).value[2])
    scalars = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**64), 2**64 - 1),
        st.binary(max_size=40),
        st.text(max_size=9),
    )
    values = st.recursive(
        scalars, lambda c: st.lists(c, max_size=4) | st.dictionaries(st.integers(0, 9), c, max_size=4)
    )
    payload[data.draw(st.sampled_from(sorted(payload)))] = data.draw(values)
    try:
        signed = envelope.verify(cls, by_another(kind, canonical.encode(payload)))
    except CredentialError:
        return
    assert canonical.encode(signed.body.payload()) == canonical.encode(payload)
