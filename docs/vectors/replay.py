#!/usr/bin/env python3
"""Derives a whole run of two nodes anew from docs/PROTOCOL.md, byte by byte in both directions.

The run is one of the real drivers on generated customers, recorded with every secret by a test of the server's library:

    cargo test -p overlap-server --lib replay        # writes target/replay.json
    pip install -r docs/vectors/requirements.txt && python docs/vectors/replay.py target/replay.json

Group arithmetic is libsodium's (`rbcl`), signatures and label sealing OpenSSL's (`cryptography`), hashes the standard
library's; what RFC 9497 adds is in check.py. Nothing is taken from the nodes but what they drew at random, which their
generators' seeds give, and what the frames say. It prints a line a part and exits with 1 at the first difference.
"""

import json
import pathlib
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from check import (
    SUITE,
    Reader,
    add,
    base,
    blind,
    blinded_by,
    challenge,
    chacha20_block,
    composites,
    derive,
    field,
    finalize,
    hash_to_group,
    hash_to_scalar,
    len16,
    multiply,
    same,
    scalar,
    sha256,
    sha512,
    sub,
    unhex,
    L,
)

HIDDEN, COUNT, LIST = range(3)
HELLO, CONFIRM, REPORT, RECEIPT, _, _, ACK = range(1, 8)
QUERY, EVALUATION, COMMITMENTS, SLICE, CLAIMS = range(16, 21)
COUNT_COMMIT, COUNT_OPEN, COUNT_ELEMENTS, COUNT_RETURNS = range(32, 36)
COUNT_DST = b"OVL1/count/HashToGroup-ristretto255-SHA512"
KEY_PROOF_DST = b"OVL1/key-proof/HashToScalar-ristretto255-SHA512"


def u32(value):
    return struct.pack(">I", value)


def u64(value):
    return struct.pack(">Q", value)


class Generator:
    """What a generator with a seed draws: the key stream of ChaCha20."""

    def __init__(self, seed):
        self.seed, self.stream = seed, b""

    def at(self, start, length):
        while len(self.stream) < start + length:
            self.stream += chacha20_block(self.seed, len(self.stream) // 64, bytes(12))
        return self.stream[start : start + length]

    def scalar(self):
        return int.from_bytes(self.at(0, 64), "little") % L

    def blinds(self, start, count):
        return [blind(self.at(start + 32 * i, 32)) for i in range(count)]


class Frame:
    def __init__(self, flow, kind, sequence, payload):
        self.flow, self.kind, self.sequence, self.payload = flow, kind, sequence, payload


def read_recording(data):
    """Section 10.1: the exporter, and the frames of either role."""
    same("what a recording begins with", data[:8], b"OVLREC1\n")
    reader, exporter, frames = Reader(data[8:]), None, ([], [])
    while reader.data:
        what, flow, kind = (reader.number(1) for _ in range(3))
        sequence, length = reader.number(8), reader.number(4)
        body = reader.take(length)
        if what == 2:
            exporter = body
        elif kind != ACK:
            # Acknowledgements are outside the chains and bind nobody.
            frames[what].append(Frame(flow, kind, sequence, body))
    return exporter, frames


class Stage:
    def __init__(self, reader):
        self.id = reader.take(reader.number(4)).decode()
        self.ordinal, self.category, self.tier = reader.number(4), reader.number(1), reader.number(1)


class SideTerms:
    """Section 5.1."""

    def __init__(self, reader):
        self.organization = reader.take(32)
        self.stages = [Stage(reader) for _ in range(reader.number(4))]
        self.key_types = [reader.number(1) for _ in range(reader.number(4))]
        self.domain_from_email = reader.number(1)
        for stage in self.stages:
            stage.label = reader.take(reader.number(4)).decode()
        self.fields = [reader.take(reader.number(4)).decode() for _ in range(reader.number(4))]
        self.timeline, self.min_count, self.count_by_count = reader.number(1), reader.number(4), reader.number(1)
        self.field_bytes, self.padding_kind, self.padding_size = (reader.number(n) for n in (2, 1, 4))
        self.max_queries, self.max_tags, self.epoch_days, self.min_interval = (reader.number(n) for n in (8, 8, 2, 8))

    def padded(self, count):
        if self.padding_kind == 0:
            return count
        if self.padding_kind == 1:
            return max(-(-count // self.padding_size), 1) * self.padding_size
        size = self.padding_size
        while size < count:
            size *= 2
        return size

    def index(self, stage_id):
        return [stage.id for stage in self.stages].index(stage_id)

    def of_tier(self, tier):
        return [index for index, stage in enumerate(self.stages) if stage.tier == tier]


class Customer:
    def __init__(self, document, terms, key_types):
        self.id, self.pseudonym = document["id"], unhex(document["pseudonym"])
        self.stage_id = document["stage"]
        # A hidden stage is not named in the terms.
        self.tier = HIDDEN
        if self.stage_id in [stage.id for stage in terms.stages]:
            self.stage = terms.index(self.stage_id)
            self.tier = terms.stages[self.stage].tier
        self.keys = [(t, value.encode()) for t, value in document["keys"] if t in key_types]

    def label(self, terms):
        assert not terms.fields, "the replayed run shares no fields"
        return bytes([self.stage]) + self.pseudonym + bytes(terms.field_bytes)


class Party:
    """One organisation with its secrets."""

    def __init__(self, role, document):
        self.role, self.document = role, document
        self.signer = Ed25519PrivateKey.from_private_bytes(unhex(document["ed25519_seed"]))
        self.public = self.signer.public_key().public_bytes_raw()
        self.id = derive(b"OVL1/organization", self.public)[:32]
        self.secret = int.from_bytes(unhex(document["voprf_secret_key"]), "little")
        self.voprf_public = base(self.secret)
        self.epoch = document["epoch"]
        # What this side found: (own customer, partner's stage, partner's pseudonym)
        self.edges = set()
        self.reported, self.counted = {}, {}

    def sign(self, message):
        return self.signer.sign(message)

    def of_tier(self, tier):
        return [customer for customer in self.customers if customer.tier == tier]

    def keys_of(self, tier):
        return {key: customer for customer in self.of_tier(tier) for key in customer.keys}


class Replay:
    def __init__(self, document):
        self.document = document
        self.parties = [Party(role, side) for role, side in enumerate(document["sides"])]
        self.generators = [Generator(unhex(seed)) for seed in document["generator_seeds"]]
        self.read_terms()
        recordings = [read_recording(unhex(side["recording"])) for side in document["sides"]]
        self.exporter, self.frames = recordings[0]
        same("exporter", self.exporter, unhex(document["exporter"]))
        plain = lambda frames: [[(f.flow, f.kind, f.sequence, f.payload) for f in side] for side in frames]
        same("the two recordings", plain(recordings[0][1]), plain(recordings[1][1]))

    def read_terms(self):
        terms = unhex(self.document["terms"])
        self.terms_hash = derive(b"OVL1/terms", terms)[:32]
        reader = Reader(terms)
        same("version and suite", reader.take(4), b"\x00\x01\x00\x01")
        self.normaliser = reader.number(2)
        reader.take(reader.number(4))
        self.chunk = reader.number(4)
        sides = [SideTerms(reader) for _ in range(2)]
        reader.end()
        same("order of the sides", sorted(party.id for party in self.parties), [side.organization for side in sides])
        self.key_types = [t for t in sides[0].key_types if t in sides[1].key_types]
        for party in self.parties:
            (party.terms,) = [side for side in sides if side.organization == party.id]
            party.customers = [
                Customer(customer, party.terms, self.key_types) for customer in party.document["customers"]
            ]

    def of(self, role, kind, flow=0):
        return [frame.payload for frame in self.frames[role] if frame.kind == kind and frame.flow == flow]

    def generator(self, what, fits):
        """The generator whose output fits: there has to be one."""
        for generator in self.generators:
            if fits(generator):
                return generator
        sys.exit(f"{what}: no generator of the run has drawn it")

    def nonce(self, what, secret, statement, fits):
        """The hedged nonce of a proof (section 3)."""

        def of(generator):
            fresh = generator.at(0, 64)
            return int.from_bytes(derive(b"OVL1/nonce", scalar(secret), fresh, statement), "little") % L

        return of(self.generator(what, lambda generator: fits(of(generator))))

    # Section 5

    def handshake(self):
        hellos = [self.of(role, HELLO)[0] for role in range(2)]
        for party in self.parties:
            peer, hello = self.parties[1 - party.role], Reader(hellos[party.role])
            same("version and suite", hello.take(4), b"\x00\x01\x00\x01")
            run, nonce = hello.take(16), hello.take(32)
            self.run = run
            assert len(nonce) == 32
            same("sender", hello.take(32), party.id)
            same("receiver", hello.take(32), peer.id)
            same("mode", hello.number(1), 0)
            same("terms hash", hello.take(32), self.terms_hash)
            same("list querier", hello.number(1), 0)
            sizes = [len(party.keys_of(tier)) for tier in (LIST, COUNT, LIST)]
            party.sizes = [party.terms.padded(size) for size in sizes]
            same("sizes", [hello.number(8) for _ in range(3)], party.sizes)
            same("run counter", hello.number(8), 0)
            same("receipt head", hello.take(32), bytes(32))
            same("key flag", hello.number(1), 1)
            same("epoch", hello.number(8), party.epoch)
            same("public key", hello.take(32), party.voprf_public)
            party.context = self.context(party, peer)
            same("key proof", hello.take(64), self.key_proof(party))
            same("stages", hello.number(1), len(party.terms.stages))
            party.stage_sizes = [
                sum(c.tier == LIST and c.stage == index for c in party.customers) // 16 * 16
                for index in range(len(party.terms.stages))
            ]
            same("stage sizes", [hello.number(4) for _ in party.terms.stages], party.stage_sizes)
            same("receipt flag", hello.number(1), 0)
            hello.end()
        self.generator("a VOPRF key", lambda generator: generator.scalar() == self.parties[0].secret)
        self.session = derive(b"OVL1/sid", *hellos, self.exporter)[:32]
        for party in self.parties:
            signature = party.sign(derive(b"OVL1/confirm", self.session, bytes([party.role])))
            same("confirmation", self.of(party.role, CONFIRM), [signature])
        ranks = [(party.sizes[0], party.id) for party in self.parties]
        self.list_querier = ranks.index(min(ranks))

    def context(self, evaluator, receiver):
        return derive(b"OVL1/ctx", SUITE, evaluator.id, receiver.id, u64(evaluator.epoch), evaluator.voprf_public)[:16]

    def key_proof(self, party):
        statement = derive(b"OVL1/key-proof", party.context, party.voprf_public)

        def proof(t):
            parts = (SUITE, party.context, party.voprf_public, base(t))
            c = hash_to_scalar(b"".join(map(len16, parts)), KEY_PROOF_DST)
            return scalar(c) + scalar(t - c * party.secret)

        sent = self.of(party.role, HELLO)[0]
        return proof(self.nonce("a key proof", party.secret, statement, lambda t: proof(t) in sent))

    # Sections 4 and 7

    def list_flow(self, receiver, evaluator):
        flow = receiver.role + 1
        has_list = bool(evaluator.terms.of_tier(LIST))
        as_querier = receiver.role == self.list_querier and bool(receiver.terms.of_tier(LIST))
        if not has_list or not (as_querier or receiver.terms.of_tier(COUNT)):
            same(f"frames of flow {flow}", [f.kind for side in self.frames for f in side if f.flow == flow], [])
            return 0
        context = evaluator.context

        def item(key):
            return b"OVL1/item" + context + bytes([key[0]]) + struct.pack(">H", self.normaliser) + len16(key[1])

        queried = receiver.keys_of(COUNT) | (receiver.keys_of(LIST) if as_querier else {})
        total = receiver.sizes[1] + (receiver.sizes[0] if as_querier else 0)
        by_tag = self.query(flow, receiver, evaluator, {item(key): owner for key, owner in queried.items()}, total)
        entries = {}
        for key, owner in evaluator.keys_of(LIST).items():
            x = item(key)
            tag, claim, master = self.keys(context, finalize(x, multiply(4 * evaluator.secret, hash_to_group(x))))
            entries[tag] = (claim, master, owner)
        self.slices(flow, receiver, evaluator, by_tag, entries)
        return total

    def keys(self, context, output):
        found = derive(b"OVL1/keys", context, output)
        return found[:16], found[16:32], found[32:]

    def query(self, flow, receiver, evaluator, items, total):
        """QUERY and EVALUATION: what the receiver derives, by tag: (master, owner, claim)."""
        points = {hash_to_group(x): x for x in items}
        by_tag, asked = {}, []
        queries, evaluations = self.of(receiver.role, QUERY, flow), self.of(evaluator.role, EVALUATION, flow)
        same("chunks", len(queries), -(-total // self.chunk))
        for number, (query, evaluation) in enumerate(zip(queries, evaluations, strict=True)):
            count = min(self.chunk, total - number * self.chunk)
            body = Reader(query)
            same("number and count", body.take(8), u32(number) + u32(count))
            blinded = body.list(count, 32)
            body.end()
            inputs, blinds = self.unblind(points, blinded)
            same("blinded elements", [blinded_by(r, hash_to_group(x)) for x, r in zip(inputs, blinds)], blinded)
            asked += inputs
            evaluated = [multiply(evaluator.secret, m) for m in blinded]
            proof = self.proof(evaluator, blinded, evaluated, evaluation[-64:])
            same("evaluation", u32(number) + u32(count) + b"".join(evaluated) + proof, evaluation)
            for x, r, z in zip(inputs, blinds, evaluated):
                element = multiply(2, sub(z, multiply(2 * r, evaluator.voprf_public)))
                tag, claim, master = self.keys(evaluator.context, finalize(x, element))
                if x in items:
                    by_tag[tag] = (master, items[x], claim)
        padding = [x for x in asked if x not in items]
        same("queried items", sorted(x for x in asked if x in items), sorted(items))
        same("padding queries", len(padding), total - len(items))
        return by_tag

    def unblind(self, points, blinded):
        """The inputs and scalars of a chunk: real ones by their points, padding by what some generator drew."""

        def first(generator):
            return any(point in points for point in unblinded(generator.blinds(0, len(blinded))))

        def unblinded(blinds):
            return [sub(half, base(r)) for half, r in zip(halves, blinds)]

        halves = [multiply((L + 1) // 2, m) for m in blinded]
        blinds = self.generator("blinds", first).blinds(0, len(blinded))
        found = unblinded(blinds)
        missing = {point for point in found if point not in points}
        padding = {}
        for generator in self.generators:
            # 32 bytes a padding query, between draws of 8 that say where the padding goes.
            for start in range(0, 40 * len(blinded), 8):
                if len(padding) == len(missing):
                    break
                x = b"OVL1/padding" + generator.at(start, 32)
                point = hash_to_group(x)
                if point in missing:
                    padding[point] = x
        same("padding queries found", len(padding), len(missing))
        return [points.get(point) or padding[point] for point in found], blinds

    def proof(self, evaluator, blinded, evaluated, sent):
        public, secret = evaluator.voprf_public, evaluator.secret
        m, z = composites(public, blinded, evaluated)
        same("composite", multiply(secret, m), z)

        def of(t):
            c = challenge(public, m, z, base(t), multiply(t, m))
            return scalar(c) + scalar(t - c * secret)

        # As a receiver verifies it, before it is made anew.
        c, s = (int.from_bytes(sent[i : i + 32], "little") for i in (0, 32))
        t2, t3 = add(base(s), multiply(c, public)), add(multiply(s, m), multiply(c, z))
        same("challenge", challenge(public, m, z, t2, t3), c)
        return of(self.nonce("a proof", secret, public + m + z, lambda t: of(t) == sent))

    def slices(self, flow, receiver, evaluator, by_tag, entries):
        """COMMITMENTS, SLICE and CLAIMS, and what both sides learn."""
        (commitments,) = self.of(evaluator.role, COMMITMENTS, flow)
        slices, claims = self.of(evaluator.role, SLICE, flow), self.of(receiver.role, CLAIMS, flow)
        total = evaluator.sizes[2]
        label_bytes = [17 + party.terms.field_bytes for party in (evaluator, receiver)]
        each = min(8192, 524_288 // (16 + max(label_bytes) + 16))
        prefix_bits = 0
        while (1 << prefix_bits) * each < total and prefix_bits < 14:
            prefix_bits += 1
        hashes = [
            derive(b"OVL1/slice", self.session, bytes([flow]), u32(index), sha256(body))[:32]
            for index, body in enumerate(slices)
        ]
        same("commitments", u64(total) + bytes([prefix_bits]) + b"".join(hashes), commitments)
        same("slices", len(slices), 1 << prefix_bits)
        published = []
        for index, (body, claimed) in enumerate(zip(slices, claims, strict=True)):
            reader = Reader(body)
            same("slice", reader.number(4), index)
            count = reader.number(4)
            same("sealed label", reader.number(2), label_bytes[0] + 16)
            tags, labels = reader.list(count, 16), reader.list(count, label_bytes[0] + 16)
            reader.end()
            same("tags", tags, sorted(set(tags)))
            assert all(int.from_bytes(tag, "big") >> (128 - prefix_bits) == index for tag in tags), "prefix"
            published += zip(tags, labels)
            claim_count, claim_bodies = 0, ([], [])
            for tag in tags:
                if tag not in by_tag:
                    continue
                master, owner, claim = by_tag[tag]
                same("claim and master", entries[tag][:2], (claim, master))
                if owner.tier == LIST:
                    claim_count += 1
                    claim_bodies[0].append(claim)
                    claim_bodies[1].append(owner.label(receiver.terms))
                    evaluator.edges.add((entries[tag][2], owner.stage, owner.pseudonym))
            expected = u32(index) + u32(claim_count) + struct.pack(">H", label_bytes[1])
            same("claims", claimed, expected + b"".join(claim_bodies[0]) + b"".join(claim_bodies[1]))
        self.labels(receiver, evaluator, by_tag, entries, published)

    def labels(self, receiver, evaluator, by_tag, entries, published):
        nonce = bytes(12)
        cipher = lambda master: ChaCha20Poly1305(
            derive(b"OVL1/label", evaluator.context, self.session, master)[:32]
        )
        padding = [(tag, label) for tag, label in published if tag not in entries]
        same("real tags", len(published) - len(padding), len(entries))
        same("tags", len(published), evaluator.sizes[2])
        for tag, label in published:
            if tag in entries:
                _, master, owner = entries[tag]
                same("label", cipher(master).encrypt(nonce, owner.label(evaluator.terms), tag), label)
        if padding:
            tags = {tag for tag, _ in padding}
            drawn = self.generator("padding tags", lambda generator: generator.at(0, 16) in tags)
            masters = {drawn.at(64 * i, 16): drawn.at(64 * i + 32, 32) for i in range(len(padding))}
            for tag, label in padding:
                try:
                    cipher(masters[tag]).decrypt(nonce, label, tag)
                except (KeyError, InvalidTag):
                    sys.exit("a padding tag has another origin, or its label another key")
        # Off the response path: the receiver opens what it matched.
        for tag, label in published:
            if tag in by_tag:
                plain = cipher(by_tag[tag][0]).decrypt(nonce, label, tag)
                receiver.edges.add((by_tag[tag][1], plain[0], plain[1:17]))

    # Section 8

    def reports(self, reporter, reader):
        flow_runs = bool(reader.terms.of_tier(LIST)) and bool(reporter.terms.of_tier(COUNT))
        reports = self.of(reporter.role, REPORT)
        same("number of reports", len(reports), int(flow_runs))
        if not flow_runs:
            return
        cells = [(i, j) for i in reporter.terms.of_tier(COUNT) for j in reader.terms.of_tier(LIST)]
        members = {cell: set() for cell in cells}
        claimed = {j: set() for j in reader.terms.of_tier(LIST)}
        for customer, stage, pseudonym in reporter.edges:
            if customer.tier == COUNT:
                members[customer.stage, stage].add(customer.id)
            else:
                claimed[stage].add(pseudonym)
        k = reporter.terms.min_count
        body = Reader(reports[0])
        series = body.take(8)
        expected = series + u32(len(cells))
        for i, j in cells:
            count = len(members[i, j])
            column = sum(len(members[other, j]) for other in reporter.terms.of_tier(COUNT))
            left = reader.stage_sizes[j] - len(claimed[j]) - column
            released = left >= k and count >= k
            expected += bytes([i, j, released])
            if released:
                expected += u64(count) + u64(self.document["clock"])
            reader.reported[j, i] = count if released else None
        expected += reporter.sign(derive(b"OVL1/report", self.session, bytes([reporter.role]), expected))
        same("report", reports[0], expected)

    # Section 9

    def count_flow(self):
        runs = all(party.terms.count_by_count and party.terms.of_tier(COUNT) for party in self.parties)
        frames = [f for side in self.frames for f in side if f.flow == 3]
        if not runs:
            return same("frames of the count flow", frames, [])
        key_type = self.key_types[0]
        pair = derive(b"OVL1/pair", SUITE, *sorted(party.id for party in self.parties))[:16]

        def item(value):
            prefix = bytes([key_type]) + struct.pack(">H", self.normaliser)
            return b"OVL1/count/item" + pair + prefix + len16(value)

        for party in self.parties:
            self.commit(party, lambda value: hash_to_group(item(value), COUNT_DST), key_type)
        for party in self.parties:
            peer = self.parties[1 - party.role]

            def hash_of(owner, group, element):
                return derive(b"OVL1/count/return", self.session, bytes([owner.role]), bytes([group]), element)[:16]

            # What this side returns, and what came back to it.
            bodies = []
            for group, elements in enumerate(peer.sent):
                hashes = sorted(hash_of(peer, group, multiply(party.exponent, e)) for e in elements)
                bodies.append(bytes([group]) + u32(len(hashes)) + b"".join(hashes))
            same("count returns", self.of(party.role, COUNT_RETURNS, 3), bodies)
            for g, own in enumerate(party.terms.of_tier(COUNT)):
                returned = {hash_of(party, g, multiply(peer.exponent, e)) for e in party.sent[g]}
                for z in party.paddings[g]:
                    assert hash_of(party, g, multiply(z, base(peer.exponent))) in returned, "padding"
                for h, theirs in enumerate(peer.terms.of_tier(COUNT)):
                    common = (multiply(party.exponent, e) for e in peer.sent[h])
                    count = sum(hash_of(party, g, e) in returned for e in common)
                    party.counted[own, theirs] = count

    def commit(self, party, point_of, key_type):
        (opened,) = self.of(party.role, COUNT_OPEN, 3)
        salt, exponent = opened[:32], opened[32:]
        drawn = self.generator("an exponent", lambda generator: base(generator.scalar()) == exponent)
        party.exponent = drawn.scalar()
        party.sent, party.paddings, position = [], [], 64
        matched = {customer.id for customer, _, _ in party.edges}
        for stage in party.terms.of_tier(COUNT):
            members = [c for c in party.of_tier(COUNT) if c.stage == stage and key_type in dict(c.keys)]
            values = [min(v for t, v in c.keys if t == key_type) for c in members if c.id not in matched]
            real = [multiply(party.exponent, point_of(value)) for value in values]
            padding = party.terms.padded(len(members)) + 16 - len(real)
            scalars = [z * party.exponent % L for z in drawn.blinds(position, padding)]
            position += 32 * padding
            party.sent.append(sorted(real + [base(z) for z in scalars]))
            party.paddings.append(scalars)
        same("salt", salt, drawn.at(position, 32))
        sizes = b"".join(u32(len(elements)) for elements in party.sent)
        everything = sha512(b"".join(e for elements in party.sent for e in elements))
        fields = (self.session, bytes([party.role]), salt, exponent, sizes, everything)
        body = derive(b"OVL1/count/commit", *fields)[:32] + bytes([len(party.sent)]) + sizes
        same("count commitment", self.of(party.role, COUNT_COMMIT, 3), [body])
        bodies = [bytes([g]) + u32(len(e)) + b"".join(e) for g, e in enumerate(party.sent)]
        same("count elements", self.of(party.role, COUNT_ELEMENTS, 3), bodies)

    # Sections 6.4 and 10

    def receipts(self):
        chains = []
        for role, frames in enumerate(self.frames):
            head = derive(b"OVL1/chain/start", self.session, bytes([role]))[:32]
            count, following = 0, [0] * 4
            for frame in frames:
                same("sequence", frame.sequence, following[frame.flow])
                following[frame.flow] += 1
                if frame.kind in (HELLO, RECEIPT):
                    continue
                numbers = bytes([frame.flow]), bytes([frame.kind]), u64(frame.sequence)
                head = derive(b"OVL1/chain", head, *numbers, sha256(frame.payload))[:32]
                count += 1
            same("last frame", frames[-1].kind, RECEIPT)
            chains.append((head, count))
        for party in self.parties:
            body = bytes([party.role]) + self.run + self.session + self.terms_hash
            for other, (head, count) in zip(self.parties, chains):
                body += other.id + u64(other.epoch) + other.voprf_public
                body += b"".join(map(u64, other.sizes)) + head + u64(count)
            salt, result = unhex(party.document["result_salt"]), unhex(party.document["result"])
            body += u64(1) + bytes(32) + derive(b"OVL1/result", salt, result)[:32]
            body += party.sign(derive(b"OVL1/receipt", body))
            same("receipt", self.of(party.role, RECEIPT), [body])

    # Section 2

    def results(self):
        for party in self.parties:
            peer = self.parties[1 - party.role]
            by_pseudonym = {customer.pseudonym: customer for customer in peer.customers}
            # Against the plain sets: the customers with a key in common, as far as the partner lists them.
            plain = {
                (mine.id, theirs.id)
                for mine in party.customers
                for theirs in peer.of_tier(LIST)
                if mine.tier != HIDDEN and set(mine.keys) & set(theirs.keys)
            }
            found = {(mine.id, by_pseudonym[p].id) for mine, stage, p in party.edges if by_pseudonym[p].stage == stage}
            same("matches", sorted(found), sorted(plain))
            names = [[stage.id for stage in side.terms.stages] for side in (party, peer)]
            shared = sorted({(mine.id, mine.stage_id, names[1][stage]) for mine, stage, _ in party.edges})
            same("list", shared, sorted(map(tuple, party.document["shared"])))
            visible = 0
            for my_id, their_id, state, count in party.document["cells"]:
                if my_id not in names[0]:
                    same(f"cell {my_id} x {their_id}", (state, count), ("WITHHELD", None))
                    continue
                i, j = names[0].index(my_id), names[1].index(their_id)
                tiers = party.terms.stages[i].tier, peer.terms.stages[j].tier
                if tiers[1] == LIST:
                    expected = "LISTED", sum((a, b) == (my_id, their_id) for _, a, b in shared)
                else:
                    number = party.reported[i, j] if tiers[0] == LIST else party.counted[i, j]
                    shown = number is not None and number >= peer.terms.min_count
                    expected = ("COUNTED", number) if shown else ("SUPPRESSED", None)
                same(f"cell {my_id} x {their_id}", (state, count), expected)
                visible += expected[1] or 0
            same("shared customers", party.document["shared_customers"], visible)


def main():
    replay = Replay(json.loads(pathlib.Path(sys.argv[1]).read_text()))
    a, b = replay.parties
    replay.handshake()
    print("hellos, key proofs, session, confirmations: ok")
    for receiver, evaluator in ((a, b), (b, a)):
        queries = replay.list_flow(receiver, evaluator)
        print(f"list flow {receiver.role + 1}, {queries} queries, {evaluator.sizes[2]} tags: ok")
    for reporter, reader in ((a, b), (b, a)):
        replay.reports(reporter, reader)
    print("reports: ok")
    replay.count_flow()
    print("count flow: ok")
    replay.receipts()
    print("transcript roots and receipts: ok")
    replay.results()
    print("matrices and lists: ok")


if __name__ == "__main__":
    main()
