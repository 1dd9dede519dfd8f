#!/usr/bin/env python3
"""Re-derives the transcript vectors beside this file from docs/PROTOCOL.md alone.

An independent implementation: group arithmetic by libsodium (PyPI package `rbcl`), hashes by the standard library,
ChaCha20-Poly1305 and Ed25519 verification written out below. Run it as

    python3 -m venv venv && venv/bin/pip install -r docs/vectors/requirements.txt && venv/bin/python docs/vectors/check.py

It prints one line a file and exits with 1 at the first difference.
"""

import hashlib
import json
import pathlib
import struct
import sys

import rbcl

L = 2**252 + 27742317777372353535851937790883648493
SUITE = b"ristretto255-SHA512"
CONTEXT_STRING = b"OPRFV1-\x01-" + SUITE
IDENTITY = bytes(32)


# Hashes (PROTOCOL.md section 3)


def sha512(data):
    return hashlib.sha512(data).digest()


def sha256(data):
    return hashlib.sha256(data).digest()


def field(data):
    return struct.pack(">I", len(data)) + data


def derive(label, *fields):
    return sha512(field(label) + b"".join(map(field, fields)))


def expand_message_xmd(message, dst):
    """RFC 9380 section 5.3.1 with SHA-512 and 64 bytes of output."""
    dst += bytes([len(dst)])
    b0 = sha512(bytes(128) + message + b"\x00\x40\x00" + dst)
    return sha512(b0 + b"\x01" + dst)


def hash_to_group(message, dst=b"HashToGroup-" + CONTEXT_STRING):
    return rbcl.crypto_core_ristretto255_from_hash(expand_message_xmd(message, dst))


def hash_to_scalar(message, dst=b"HashToScalar-" + CONTEXT_STRING):
    return int.from_bytes(expand_message_xmd(message, dst), "little") % L


def len16(data):
    """I2OSP(len(data), 2) || data"""
    return struct.pack(">H", len(data)) + data


# Group (RFC 9496)


def scalar(value):
    return (value % L).to_bytes(32, "little")


def wide(text):
    return int.from_bytes(bytes.fromhex(text), "little") % L


def blind(data):
    """Of 32 random bytes (PROTOCOL.md section 1)."""
    return int.from_bytes(data, "little") % 2**252


def add(a, b):
    return rbcl.crypto_core_ristretto255_add(a, b)


def sub(a, b):
    return rbcl.crypto_core_ristretto255_sub(a, b)


def multiply(value, point):
    if value % L == 0 or point == IDENTITY:
        return IDENTITY
    return rbcl.crypto_scalarmult_ristretto255(scalar(value), point)


def base(value):
    return rbcl.crypto_scalarmult_ristretto255_base(scalar(value))


def blinded_by(r, point):
    """PROTOCOL.md section 4.2."""
    return multiply(2, add(point, base(r)))


def total(points):
    result = IDENTITY
    for point in points:
        result = add(result, point)
    return result


# RFC 9497


def composites(public_key, blinded, evaluated):
    """PROTOCOL.md section 4.2."""
    seed = derive(b"OVL1/weights", public_key, sha256(b"".join(blinded)), sha256(b"".join(evaluated)))
    stream = b"".join(sha512(seed + struct.pack(">I", j)) for j in range((len(blinded) + 3) // 4))
    weights = [int.from_bytes(stream[16 * i : 16 * i + 16], "little") for i in range(len(blinded))]
    return (
        total(multiply(w, c) for w, c in zip(weights, blinded)),
        total(multiply(w, d) for w, d in zip(weights, evaluated)),
    )


def challenge(public_key, *elements):
    return hash_to_scalar(len16(public_key) + b"".join(map(len16, elements)) + b"Challenge")


def finalize(item, element):
    return sha512(len16(item) + len16(element) + b"Finalize")


# RFC 8439


def chacha20_block(key, counter, nonce):
    def rotate(value, bits):
        value &= 0xFFFFFFFF
        return ((value << bits) | (value >> (32 - bits))) & 0xFFFFFFFF

    def quarter(s, a, b, c, d):
        for x, y, z, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = (s[x] + s[y]) & 0xFFFFFFFF
            s[z] = rotate(s[z] ^ s[x], bits)

    start = list(struct.unpack("<16I", b"expand 32-byte k" + key + struct.pack("<I", counter) + nonce))
    state = start[:]
    for _ in range(10):
        for column in range(4):
            quarter(state, column, column + 4, column + 8, column + 12)
        for i in range(4):
            quarter(state, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(start, state)))


def seal(key, plain, aad):
    nonce = bytes(12)
    stream = b"".join(chacha20_block(key, 1 + i, nonce) for i in range(-(-len(plain) // 64)))
    sealed = bytes(a ^ b for a, b in zip(plain, stream))
    pad = lambda data: data + bytes(-len(data) % 16)
    message = pad(aad) + pad(sealed) + struct.pack("<QQ", len(aad), len(sealed))
    one_time = chacha20_block(key, 0, nonce)[:32]
    r = int.from_bytes(one_time[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    accumulator = 0
    for i in range(0, len(message), 16):
        block = int.from_bytes(message[i : i + 16] + b"\x01", "little")
        accumulator = (accumulator + block) * r % (2**130 - 5)
    mac = (accumulator + int.from_bytes(one_time[16:], "little")) % 2**128
    return sealed + mac.to_bytes(16, "little")


# RFC 8032, verification only

P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P


def ed_add(a, b):
    (x1, y1), (x2, y2) = a, b
    k = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + k, P - 2, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - k, P - 2, P)
    return x % P, y % P


def ed_multiply(value, point):
    result = (0, 1)
    while value:
        if value & 1:
            result = ed_add(result, point)
        point, value = ed_add(point, point), value >> 1
    return result


def ed_decode(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if (x * x - xx) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert (x * x - xx) % P == 0, "not on the curve"
    return (P - x if x & 1 != sign else x), y


ED_BASE = ed_decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def ed_verify(public_key, message, signature):
    r, s = ed_decode(signature[:32]), int.from_bytes(signature[32:], "little")
    k = int.from_bytes(sha512(signature[:32] + public_key + message), "little") % L
    return ed_multiply(s, ED_BASE) == ed_add(r, ed_multiply(k, ed_decode(public_key)))


# Checks


def same(name, found, expected):
    if found != expected:
        show = lambda value: value.hex() if isinstance(value, bytes) else value
        sys.exit(f"{name} differs:\n  found    {show(found)}\n  expected {show(expected)}")


def load(name):
    return json.loads((pathlib.Path(__file__).parent / name).read_text())


def unhex(value):
    return bytes.fromhex(value)


class Reader:
    def __init__(self, data):
        self.data = data

    def take(self, length):
        assert length <= len(self.data), "the body is too short"
        head, self.data = self.data[:length], self.data[length:]
        return head

    def number(self, length):
        return int.from_bytes(self.take(length), "big")

    def list(self, count, length):
        return [self.take(length) for _ in range(count)]

    def end(self):
        assert not self.data, "the body has trailing bytes"


def text(value):
    return field(value.encode())


def terms_of(ids):
    """The vectors' terms (section 5.1): both sides disclose alike. Returns the terms and what the structure hash covers."""

    stages = [("prospect", 10, 0, 1), ("customer", 40, 1, 2), ("lost", 50, 2, 0)]

    def structure(organization):
        body = organization + struct.pack(">I", len(stages))
        for name, ordinal, category, tier in stages:
            body += text(name) + struct.pack(">IBB", ordinal, category, tier)
        return body + struct.pack(">I", 2) + b"\x02\x04" + b"\x00"

    common = struct.pack(">H", 1) + text("2026-01-01")
    body = struct.pack(">HH", 1, 1) + common + struct.pack(">I", 16384)
    for organization in sorted(ids):
        body += structure(organization) + b"".join(text(name.upper()) for name, *_ in stages)
        body += struct.pack(">I", 2) + text("name") + text("region")
        body += b"\x01" + struct.pack(">I", 5) + b"\x01" + struct.pack(">H", 16)
        body += struct.pack(">BI", 0, 0) + struct.pack(">QQHQ", 2**22, 2**22, 30, 604800)
    return body, common + b"".join(map(structure, sorted(ids)))


def check_handshake():
    v = load("handshake.json")
    ids = [unhex(side["organization_id"]) for side in v["sides"]]
    terms, structure = terms_of(ids)
    same("terms", terms, unhex(v["terms"]))
    same("structure hash", derive(b"OVL1/structure", structure)[:32], unhex(v["structure_hash"]))
    terms_hash = derive(b"OVL1/terms", unhex(v["terms"]))[:32]
    same("terms hash", terms_hash, unhex(v["terms_hash"]))
    low, high = sorted(ids)
    same("pair", derive(b"OVL1/pair", SUITE, low, high)[:16], unhex(v["pair"]))
    for role, side in enumerate(v["sides"]):
        key = unhex(side["organization_key"])
        same("organisation id", derive(b"OVL1/organization", key)[:32], ids[role])
        secret = int.from_bytes(unhex(side["voprf_secret_key"]), "little")
        public = unhex(side["voprf_public_key"])
        same("public key", base(secret), public)
        epoch = struct.pack(">Q", side["epoch"])
        context = derive(b"OVL1/ctx", SUITE, ids[role], ids[1 - role], epoch, public)[:16]
        same("context", context, unhex(side["context"]))
        statement = derive(b"OVL1/key-proof", context, public)
        (fresh,) = map(unhex, side["key_proof_randomness"])
        nonce = int.from_bytes(derive(b"OVL1/nonce", scalar(secret), fresh, statement), "little") % L
        c = hash_to_scalar(
            len16(SUITE) + len16(context) + len16(public) + len16(base(nonce)),
            b"OVL1/key-proof/HashToScalar-ristretto255-SHA512",
        )
        proof = scalar(c) + scalar(nonce - c * secret)
        hello = (
            struct.pack(">HH", 1, 1)
            + bytes([7] * 16)
            + unhex(side["ed25519_seed"])
            + ids[role]
            + ids[1 - role]
            + b"\x00"
            + terms_hash
            + b"\x00"
            + struct.pack(">QQQQ", [3, 4][role], 2, [3, 4][role], 0)
            + bytes(32)
            + b"\x01"
            + epoch
            + public
            + proof
            + b"\x03"
            + struct.pack(">III", 0, 16, 0)
            + b"\x00"
        )
        same("hello", hello, unhex(side["hello"]))
    hellos = [unhex(side["hello"]) for side in v["sides"]]
    session = derive(b"OVL1/sid", *hellos, unhex(v["exporter"]))[:32]
    same("session", session, unhex(v["session"]))
    for role, side in enumerate(v["sides"]):
        message = derive(b"OVL1/confirm", session, bytes([role]))
        assert ed_verify(unhex(side["organization_key"]), message, unhex(side["confirm"])), "confirm"
        start = derive(b"OVL1/chain/start", session, bytes([role]))[:32]
        same("chain start", start, unhex(side["chain_start"]))
    head = unhex(v["sides"][0]["chain_start"])
    for frame in v["initiator_frames"]:
        head = derive(
            b"OVL1/chain",
            head,
            bytes([frame["flow"]]),
            bytes([frame["kind"]]),
            struct.pack(">Q", frame["sequence"]),
            sha256(unhex(frame["payload"])),
        )[:32]
        same("chain head", head, unhex(frame["head"]))
    result = derive(b"OVL1/result", unhex(v["result_salt"]), unhex(v["result"]))[:32]
    same("result commitment", result, unhex(v["result_commitment"]))
    confirm = unhex(v["sides"][1]["confirm"])
    peer_head = derive(
        b"OVL1/chain", unhex(v["sides"][1]["chain_start"]), b"\x00", b"\x02", struct.pack(">Q", 1), sha256(confirm)
    )[:32]
    for role, side in enumerate(v["sides"]):
        body = bytes([role]) + bytes([7] * 16) + session + terms_hash
        for other, (chain, frames) in enumerate([(head, 3), (peer_head, 1)]):
            body += ids[other] + struct.pack(">Q", 3) + unhex(v["sides"][other]["voprf_public_key"])
            body += struct.pack(">QQQ", [3, 4][other], 2, [3, 4][other]) + chain + struct.pack(">Q", frames)
        body += struct.pack(">Q", 1) + bytes(32) + result
        receipt = unhex(side["receipt"])
        same("receipt", receipt[:-64], body)
        message = derive(b"OVL1/receipt", body)
        assert ed_verify(unhex(side["organization_key"]), message, receipt[-64:]), "receipt signature"
        same("receipt head", derive(b"OVL1/receipt-head", receipt)[:32], unhex(side["receipt_head"]))


def check_list_flow():
    v = load("list-flow.json")
    context, session = unhex(v["context"]), unhex(v["session"])
    secret = int.from_bytes(unhex(v["secret_key"]), "little")
    public = unhex(v["public_key"])
    same("public key", base(secret), public)

    def item(key):
        value = key["value"].encode()
        return (
            b"OVL1/item"
            + context
            + bytes([key["type"]])
            + struct.pack(">H", v["normaliser_version"])
            + len16(value)
        )

    def keys(output):
        found = derive(b"OVL1/keys", context, output)
        return found[:16], found[16:32], found[32:]

    # QUERY: blinded by addition, doubled
    inputs = [item(key) for key in v["receiver_items"]]
    inputs += [b"OVL1/padding" + unhex(text) for text in v["receiver_padding_input_randomness"]]
    blinds = [blind(unhex(text)) for text in v["blind_randomness"]]
    blinded = [blinded_by(r, hash_to_group(x)) for x, r in zip(inputs, blinds)]
    query = struct.pack(">II", 0, len(blinded)) + b"".join(blinded)
    same("query", query, unhex(v["query"]))

    # EVALUATION and its proof
    evaluated = [multiply(secret, m) for m in blinded]
    (fresh,) = map(unhex, v["proof_randomness"])
    m, z = composites(public, blinded, evaluated)
    nonce = int.from_bytes(derive(b"OVL1/nonce", scalar(secret), fresh, public + m + z), "little") % L
    same("composite", multiply(secret, m), z)
    c = challenge(public, m, z, base(nonce), multiply(nonce, m))
    s = (nonce - c * secret) % L
    evaluation = struct.pack(">II", 0, len(evaluated)) + b"".join(evaluated) + scalar(c) + scalar(s)
    same("evaluation", evaluation, unhex(v["evaluation"]))
    t2 = add(base(s), multiply(c, public))
    t3 = add(multiply(s, m), multiply(c, z))
    same("proof", challenge(public, m, z, t2, t3), c)

    # Unblinding and keys
    elements = [multiply(2, sub(e, multiply(2 * r, public))) for e, r in zip(evaluated, blinds)]
    outputs = [finalize(x, element) for x, element in zip(inputs, elements)]
    own = [(key["owner"], *keys(output)) for key, output in zip(v["receiver_items"], outputs)]
    expected = [(k["owner"], unhex(k["tag"]), unhex(k["claim"]), unhex(k["master"])) for k in v["receiver_keys"]]
    same("receiver's keys", own, expected)

    # The evaluator's own entries, padding included, in tag order
    entries = []
    for key in v["evaluator_items"]:
        x = item(key)
        entries.append((key["owner"], *keys(finalize(x, multiply(4 * secret, hash_to_group(x))))))
    for text in v["evaluator_padding_randomness"]:
        r = unhex(text)
        entries.append((None, r[:16], r[16:32], r[32:]))
    entries.sort(key=lambda entry: entry[1])
    expected = [(k["owner"], unhex(k["tag"]), unhex(k["claim"]), unhex(k["master"])) for k in v["evaluator_keys"]]
    same("evaluator's keys", entries, expected)

    # SLICE and COMMITMENTS
    plain = [unhex(text) for text in v["plain_labels"]]
    sealed = [
        seal(derive(b"OVL1/label", context, session, master)[:32], label, tag)
        for (_, tag, _, master), label in zip(entries, plain)
    ]
    tags = [entry[1] for entry in entries]
    slice_body = struct.pack(">IIH", 0, len(tags), len(sealed[0])) + b"".join(tags) + b"".join(sealed)
    same("slice", slice_body, unhex(v["slice"]))
    commitment = derive(b"OVL1/slice", session, bytes([v["flow"]]), struct.pack(">I", 0), sha256(slice_body))[:32]
    same("commitments", struct.pack(">QB", len(tags), 0) + commitment, unhex(v["commitments"]))

    # CLAIMS: the receiver's matches, opened only afterwards
    claims = Reader(unhex(v["claims"]))
    same("slice of the claims", claims.number(4), 0)
    count, length = claims.number(4), claims.number(2)
    claimed = list(zip(claims.list(count, 16), claims.list(count, length)))
    claims.end()

    def fields(area, number):
        reader, values = Reader(area), []
        for _ in range(number):
            length = reader.number(2)
            values.append(None if length == 0xFFFF else reader.take(length).decode())
        assert not any(reader.data), "the filler is zeros"
        return values

    by_claim = {entry[2]: entry[0] for entry in entries if entry[0] is not None}
    learnt = [
        {
            "owner": by_claim[claim],
            "stage": label[0],
            "pseudonym": label[1:17].hex(),
            "fields": fields(label[17:], 2),
        }
        for claim, label in claimed
    ]
    same("what the evaluator learns", learnt, v["evaluator_learns"])
    learnt = []
    for owner, *found in sorted(own, key=lambda entry: entry[1]):
        tag, _, master = found
        if tag not in tags:
            continue
        position = tags.index(tag)
        key = derive(b"OVL1/label", context, session, master)[:32]
        same("sealed label", seal(key, plain[position], tag), sealed[position])
        label = plain[position]
        learnt.append(
            {
                "owner": owner,
                "tag": tag.hex(),
                "stage": label[0],
                "pseudonym": label[1:17].hex(),
                "fields": fields(label[17:], 2),
            }
        )
    same("what the receiver learns", learnt, v["receiver_learns"])


def check_count_flow():
    v = load("count-flow.json")
    session, pair = unhex(v["session"]), unhex(v["pair"])
    dst = b"OVL1/count/HashToGroup-ristretto255-SHA512"

    def item(value):
        prefix = bytes([v["key_type"]]) + struct.pack(">H", v["normaliser_version"])
        return b"OVL1/count/item" + pair + prefix + len16(value.encode())

    def hash_of(owner, element):
        return derive(b"OVL1/count/return", session, bytes([owner]), b"\x00", element)[:16]

    exponents, sent, paddings = [], [], []
    for role, side in enumerate(v["sides"]):
        (a,) = map(wide, side["exponent_randomness"])
        padding = [blind(unhex(text)) * a % L for text in side["padding_randomness"]]
        elements = [multiply(a, hash_to_group(item(value), dst)) for value in side["values"]]
        elements = sorted(elements + [base(z) for z in padding])
        opened = Reader(unhex(side["open"]))
        salt, exponent = opened.take(32), opened.take(32)
        opened.end()
        same("exponent", exponent, base(a))
        sizes = struct.pack(">I", len(elements))
        commitment = derive(
            b"OVL1/count/commit", session, bytes([role]), salt, exponent, sizes, sha512(b"".join(elements))
        )[:32]
        same("count commitment", commitment + b"\x01" + sizes, unhex(side["commit"]))
        (body,) = map(unhex, side["elements"])
        same("count elements", b"\x00" + sizes + b"".join(elements), body)
        exponents.append(a)
        sent.append(elements)
        paddings.append(padding)
    for role, side in enumerate(v["sides"]):
        a, peer = exponents[role], 1 - role
        common = [multiply(a, element) for element in sent[peer]]
        hashes = sorted(hash_of(peer, element) for element in common)
        body = b"\x00" + struct.pack(">I", len(hashes)) + b"".join(hashes)
        same("count returns", body, unhex(side["returns"][0]))
        returned = {hash_of(role, multiply(exponents[peer], element)) for element in sent[role]}
        for z in paddings[role]:
            assert hash_of(role, multiply(z, base(exponents[peer]))) in returned, "padding"
        count = sum(hash_of(role, element) in returned for element in common)
        same("count", [[count]], side["counts"])


def main():
    for name, check in [
        ("handshake.json", check_handshake),
        ("list-flow.json", check_list_flow),
        ("count-flow.json", check_count_flow),
    ]:
        check()
        print(f"{name}: ok")


if __name__ == "__main__":
    main()
