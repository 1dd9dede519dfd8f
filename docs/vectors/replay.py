#!/usr/bin/env python3
"""Derives whole runs of two nodes anew from docs/PROTOCOL.md, byte by byte in both directions.

They are runs of the real drivers on generated customers, recorded with every secret by tests of the server's library: one
with every flow, and one with the delta runs that go on from it.

    cargo test -p overlap-server --lib replay        # writes target/replay.json and target/replay-delta.json
    pip install -r docs/vectors/requirements.txt
    python docs/vectors/replay.py target/replay.json && python docs/vectors/replay.py target/replay-delta.json

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
HELLO, CONFIRM, REPORT, RECEIPT, _, ABORT, ACK = range(1, 8)
QUERY, EVALUATION, COMMITMENTS, SLICE, CLAIMS, REMOVALS, WITHDRAWALS, EARLIER_CLAIMS = range(16, 24)
COUNT_COMMIT, COUNT_OPEN, COUNT_ELEMENTS, COUNT_RETURNS = range(32, 36)
COUNT_DST = b"OVL1/count/HashToGroup-ristretto255-SHA512"
KEY_PROOF_DST = b"OVL1/key-proof/HashToScalar-ristretto255-SHA512"


def u32(value):
    return struct.pack(">I", value)


def u64(value):
    return struct.pack(">Q", value)


def padded(count, table):
    """The numbers of a delta run (section 7.7)."""
    power = 1
    while power < count:
        power *= 2
    return max(power, 1024, -(-table // 100))


def halved(point):
    return multiply((L + 1) // 2, point)


def unblinded(halves, blinds):
    return [sub(half, base(r)) for half, r in zip(halves, blinds)]


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
    ended = lambda side: bool(side) and side[-1].kind == RECEIPT
    while reader.data and not all(map(ended, frames)):
        what, flow, kind = (reader.number(1) for _ in range(3))
        sequence, length = reader.number(8), reader.number(4)
        body = reader.take(length)
        if what == 2:
            exporter = body
        elif kind not in (ABORT, ACK) and not ended(frames[what]):
            # ABORT and ACK are outside the chains and bind nobody; a side's part ends with its receipt.
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
        assert not terms.fields, "the replayed runs share no fields"
        return bytes([self.stage]) + self.pseudonym + bytes(terms.field_bytes)


class Query:
    """What a receiver keeps of a live query."""

    def __init__(self, tag, claim, master):
        self.tag, self.claim, self.master = tag, claim, master


class Tag:
    """What an evaluator keeps of a live tag: the key it was made of, or None for padding, and what its label says."""

    def __init__(self, key, claim, master, plain):
        self.key, self.claim, self.master, self.plain = key, claim, master, plain


class Memory:
    """What a party keeps from one run of an epoch to the next (section 7.7), of its receipts and of its reports."""

    def __init__(self):
        # As receiver: live queries by key, the partner's live tags with label and session, the tags it claimed.
        self.queries, self.seen, self.claims, self.queried = {}, {}, set(), 0
        # As evaluator: live tags, and the accepted claims with what they said.
        self.tags, self.accepted, self.published = {}, {}, 0
        # What its labels said of the keys of its list tier.
        self.said = {}
        self.receipts, self.receipt = 0, b""
        self.released = {}


class Party:
    """One organisation with its secrets."""

    def __init__(self, role, document):
        self.role, self.document, self.memory = role, document, Memory()
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

    def labels(self):
        """What its labels say, by key of its list tier."""
        return {key: customer.label(self.terms) for key, customer in self.keys_of(LIST).items()}


def receipt_head(receipt):
    return derive(b"OVL1/receipt-head", receipt)[:32] if receipt else bytes(32)


class Replay:
    """One run; `previous` is the one that it goes on from, which makes it a delta run."""

    def __init__(self, document, previous=None):
        self.document, self.previous = document, previous
        self.parties = [Party(role, side) for role, side in enumerate(document["sides"])]
        for party in self.parties:
            for before in previous.parties if previous else []:
                if before.id == party.id:
                    party.memory = before.memory
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
        self.plan()
        for party in self.parties:
            peer, hello = self.parties[1 - party.role], Reader(hellos[party.role])
            same("version and suite", hello.take(4), b"\x00\x01\x00\x01")
            run, nonce = hello.take(16), hello.take(32)
            self.run = run
            assert len(nonce) == 32
            same("sender", hello.take(32), party.id)
            same("receiver", hello.take(32), peer.id)
            same("mode", hello.number(1), int(bool(self.previous)))
            same("terms hash", hello.take(32), self.terms_hash)
            settled = 2 - (party.id == self.previous.querier) if self.previous else 0
            same("list querier", hello.number(1), settled)
            same("sizes", [hello.number(8) for _ in range(3)], party.sizes)
            same("run counter", hello.number(8), party.memory.receipts)
            same("receipt head", hello.take(32), receipt_head(party.memory.receipt))
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
            held = peer.memory.receipt
            same("receipt flag", hello.number(1), int(bool(held)))
            if held:
                same("the peer's receipt", hello.take(hello.number(2)), held)
            hello.end()
        if not self.previous:
            self.generator("a VOPRF key", lambda generator: generator.scalar() == self.parties[0].secret)
        self.session = derive(b"OVL1/sid", *hellos, self.exporter)[:32]
        for party in self.parties:
            signature = party.sign(derive(b"OVL1/confirm", self.session, bytes([party.role])))
            same("confirmation", self.of(party.role, CONFIRM), [signature])

    def plan(self):
        """Who queries whom, and how much: sections 2, 5.2 and 7.7."""
        for party in self.parties:
            sizes = [len(party.keys_of(tier)) for tier in (LIST, COUNT, LIST)]
            party.sizes = [party.terms.padded(size) for size in sizes]
        if self.previous:
            self.querier = self.previous.querier
        else:
            self.querier = min((party.sizes[0], party.id) for party in self.parties)[1]
        for party in self.parties:
            peer = self.parties[1 - party.role]
            tiers = [COUNT] if party.terms.of_tier(COUNT) else []
            if party.id == self.querier and party.terms.of_tier(LIST):
                tiers.append(LIST)
            # Tiers that are queried: none if the peer discloses none.
            party.queried_tiers = tiers if peer.terms.of_tier(LIST) else []
        if self.previous:
            for party in self.parties:
                self.plan_delta(party, self.parties[1 - party.role])

    def plan_delta(self, party, peer):
        memory = party.memory
        party.sizes = [0, 0, 0]
        for place, tier in enumerate((LIST, COUNT)):
            if tier in party.queried_tiers:
                new = [key for key in party.keys_of(tier) if key not in memory.queries]
                party.sizes[place] = padded(len(new), memory.queried)
        if not peer.queried_tiers:
            return
        labels, table = party.labels(), memory.published
        live = {tag: entry for tag, entry in memory.tags.items() if entry.key in labels}
        party.void = {tag for tag, entry in memory.tags.items() if entry.key and tag not in live}
        padding = sum(entry.key is None for entry in memory.tags.values())
        # "Removals are padded with padding tags of earlier runs, as far as there are enough."
        party.void_padding = min(padded(len(party.void), table) - len(party.void), padding)
        party.changed = {tag for tag, entry in live.items() if entry.plain != labels[entry.key]}
        published = {entry.key for entry in live.values()}
        party.additions = padded(len([key for key in labels if key not in published]), table)
        # "label changes with random unchanged live tags, padding among them, ... all of them if there are too few"
        unchanged = len(live) - len(party.changed) + padding - party.void_padding
        party.resealed = len(party.changed) + min(padded(len(party.changed), table) - len(party.changed), unchanged)
        party.sizes[2] = party.additions + party.resealed

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
        if not receiver.queried_tiers:
            same(f"frames of flow {flow}", [f.kind for side in self.frames for f in side if f.flow == flow], [])
            return 0
        context, mine, theirs = evaluator.context, receiver.memory, evaluator.memory

        def item(key):
            return b"OVL1/item" + context + bytes([key[0]]) + struct.pack(">H", self.normaliser) + len16(key[1])

        wanted = {key: owner for tier in receiver.queried_tiers for key, owner in receiver.keys_of(tier).items()}
        # A full run begins with nothing; a delta run with the queries that are still wanted.
        mine.queries = {key: query for key, query in mine.queries.items() if self.previous and key in wanted}
        receiver.new = [key for key in wanted if key not in mine.queries]
        total = sum(receiver.sizes[place] for place, tier in enumerate((LIST, COUNT)) if tier in receiver.queried_tiers)
        mine.queries |= self.query(flow, receiver, evaluator, {item(key): key for key in receiver.new}, total)
        if not self.previous:
            mine.queried, theirs.published = total, evaluator.sizes[2]
            mine.seen, mine.claims, theirs.tags, theirs.accepted = {}, set(), {}, {}
            evaluator.additions, evaluator.resealed, evaluator.changed = evaluator.sizes[2], 0, set()
        self.removals(flow, receiver, evaluator)
        labels = evaluator.labels()
        published = {entry.key for entry in theirs.tags.values()}
        added = {}
        for key in labels:
            if key not in published:
                x = item(key)
                tag, claim, master = self.keys(context, finalize(x, multiply(4 * evaluator.secret, hash_to_group(x))))
                added[tag] = Tag(key, claim, master, labels[key])
        self.slices(flow, receiver, evaluator, wanted, added)
        if self.previous:
            self.earlier_claims(flow, receiver, evaluator, wanted)
        self.edges(receiver, evaluator, wanted)
        return total

    def keys(self, context, output):
        found = derive(b"OVL1/keys", context, output)
        return found[:16], found[16:32], found[32:]

    def query(self, flow, receiver, evaluator, items, total):
        """QUERY and EVALUATION: what the receiver derives of these items, by key."""
        points = {hash_to_group(x): x for x in items}
        found, asked = {}, []
        queries, evaluations = self.of(receiver.role, QUERY, flow), self.of(evaluator.role, EVALUATION, flow)
        same("chunks", len(queries), -(-total // self.chunk))
        for number, (query, evaluation) in enumerate(zip(queries, evaluations, strict=True)):
            count = min(self.chunk, total - number * self.chunk)
            body = Reader(query)
            same("number and count", body.take(8), u32(number) + u32(count))
            blinded = body.list(count, 32)
            body.end()
            inputs, blinds = self.unblind(points, blinded, total)
            same("blinded elements", [blinded_by(r, hash_to_group(x)) for x, r in zip(inputs, blinds)], blinded)
            asked += inputs
            evaluated = [multiply(evaluator.secret, m) for m in blinded]
            proof = self.proof(evaluator, blinded, evaluated, evaluation[-64:])
            same("evaluation", u32(number) + u32(count) + b"".join(evaluated) + proof, evaluation)
            for x, r, z in zip(inputs, blinds, evaluated):
                element = multiply(2, sub(z, multiply(2 * r, evaluator.voprf_public)))
                tag, claim, master = self.keys(evaluator.context, finalize(x, element))
                if x in items:
                    found[items[x]] = Query(tag, claim, master)
        padding = [x for x in asked if x not in items]
        same("queried items", sorted(x for x in asked if x in items), sorted(items))
        same("padding queries", len(padding), total - len(items))
        return found

    def unblind(self, points, blinded, total):
        """The inputs and scalars of a chunk: real ones by their points, padding by what some generator drew."""
        if self.previous:
            return self.unblind_strewn(points, blinded, total)

        def first(generator):
            return any(point in points for point in unblinded(halves, generator.blinds(0, len(blinded))))

        halves = [halved(m) for m in blinded]
        blinds = self.generator("blinds", first).blinds(0, len(blinded))
        found = unblinded(halves, blinds)
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

    def unblind_strewn(self, points, blinded, total):
        """As `unblind`, where nearly all is padding: the generator that strewed it says where it is."""
        same("a delta run's chunks", len(blinded), total)
        halves = [halved(m) for m in blinded]
        firsts = [unblinded(halves[:1], generator.blinds(0, 1))[0] for generator in self.generators]
        for strewing in self.generators:
            drawn, position, padding = [], 0, total - len(points)
            while len(drawn) < total and padding:
                x, position = None, position + 8
                if int.from_bytes(strewing.at(position - 8, 8), "little") % (total - len(drawn)) < padding:
                    x, padding = b"OVL1/padding" + strewing.at(position, 32), padding - 1
                    position += 32
                drawn.append(x)
                # Another generator's first draw is known by no blinding.
                if len(drawn) == 1 and x and hash_to_group(x) not in firsts:
                    break
            drawn += [None] * (total - len(drawn))
            known = {hash_to_group(drawn[0])} if drawn[0] else set(points)
            for blinding, point in zip(self.generators, firsts):
                if point not in known:
                    continue
                blinds = blinding.blinds(0, total)
                inputs = [x or points.get(point) for x, point in zip(drawn, unblinded(halves, blinds))]
                if None not in inputs:
                    return inputs, blinds
        sys.exit("queries: no generators of the run have drawn padding and blinds")

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

    def tags_of(self, frames):
        """The tags of REMOVALS or WITHDRAWALS frames."""
        tags = []
        for number, body in enumerate(frames, 1):
            reader = Reader(body)
            last, count = reader.number(1), reader.number(4)
            same("last frame of tags", last, int(number == len(frames)))
            assert count or last, "a frame of tags is empty"
            tags += reader.list(count, 16)
            reader.end()
        same("order of tags", tags, sorted(set(tags)))
        return set(tags)

    def removals(self, flow, receiver, evaluator):
        frames = self.of(evaluator.role, REMOVALS, flow)
        if not self.previous:
            return same("removals of a full run", len(frames), 0)
        assert frames, "a delta run has removals"
        removed, tags = self.tags_of(frames), evaluator.memory.tags
        same("void tags", sorted(tag for tag in removed if tag not in tags or tags[tag].key), sorted(evaluator.void))
        same("removals", len(removed), len(evaluator.void) + evaluator.void_padding)
        for tag in removed:
            del tags[tag], receiver.memory.seen[tag]
            evaluator.memory.accepted.pop(tag, None)
            receiver.memory.claims.discard(tag)

    def slices(self, flow, receiver, evaluator, wanted, added):
        """COMMITMENTS, SLICE and CLAIMS: what is published, and what is claimed of it."""
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
        by_tag = {query.tag: (key, query) for key, query in receiver.memory.queries.items()}
        published = {}
        for index, (body, claimed) in enumerate(zip(slices, claims, strict=True)):
            reader = Reader(body)
            same("slice", reader.number(4), index)
            count = reader.number(4)
            same("sealed label", reader.number(2), label_bytes[0] + 16)
            tags, labels = reader.list(count, 16), reader.list(count, label_bytes[0] + 16)
            reader.end()
            same("tags", tags, sorted(set(tags)))
            assert all(int.from_bytes(tag, "big") >> (128 - prefix_bits) == index for tag in tags), "prefix"
            published |= zip(tags, labels)
            claim_bodies = [], []
            for tag in tags:
                if tag not in by_tag:
                    continue
                key, query = by_tag[tag]
                entry = added.get(tag) or evaluator.memory.tags[tag]
                same("claim and master", (entry.claim, entry.master), (query.claim, query.master))
                if wanted[key].tier == LIST:
                    claim_bodies[0].append(query.claim)
                    claim_bodies[1].append(wanted[key].label(receiver.terms))
                    self.accept(receiver, evaluator, tag, wanted[key])
            expected = u32(index) + u32(len(claim_bodies[0])) + struct.pack(">H", label_bytes[1])
            same("claims", claimed, expected + b"".join(claim_bodies[0]) + b"".join(claim_bodies[1]))
        self.publish(receiver, evaluator, added, published)

    def accept(self, receiver, evaluator, tag, customer):
        receiver.memory.claims.add(tag)
        evaluator.memory.accepted[tag] = customer.stage, customer.pseudonym

    def publish(self, receiver, evaluator, added, published):
        """The labels of new tags, and of those that are said anew."""
        nonce, tags = bytes(12), evaluator.memory.tags
        same("tags", len(published), evaluator.sizes[2])
        cipher = lambda master: ChaCha20Poly1305(
            derive(b"OVL1/label", evaluator.context, self.session, master)[:32]
        )
        again = {tag for tag in published if tag in tags}
        same("tags said anew", len(again), evaluator.resealed)
        assert evaluator.changed <= again, "a label that changed is not said anew"
        same("new tags", sorted(tag for tag in added if tag not in published), [])
        labels = evaluator.labels()
        for tag in again:
            if tags[tag].key:
                tags[tag].plain = labels[tags[tag].key]
        tags |= added
        padding = [tag for tag in published if tag not in tags]
        same("padding tags", len(padding), evaluator.additions - len(added))
        if padding:
            drawn = self.generator("padding tags", lambda generator: generator.at(0, 16) in published)
            for i in range(len(padding)):
                tags[drawn.at(64 * i, 16)] = Tag(None, drawn.at(64 * i + 16, 16), drawn.at(64 * i + 32, 32), None)
        for tag, label in published.items():
            if tag not in tags:
                sys.exit("a padding tag has another origin")
            entry = tags[tag]
            if entry.key:
                same("label", cipher(entry.master).encrypt(nonce, entry.plain, tag), label)
            else:
                try:
                    cipher(entry.master).decrypt(nonce, label, tag)
                except InvalidTag:
                    sys.exit("the label of a padding tag has another key")
        receiver.memory.seen |= {tag: (label, self.session) for tag, label in published.items()}
        receiver.published = set(published)

    def earlier_claims(self, flow, receiver, evaluator, wanted):
        """EARLIER_CLAIMS and WITHDRAWALS of a delta run."""
        memory = receiver.memory
        expected = []
        for key, query in memory.queries.items():
            owner = wanted[key]
            if owner.tier != LIST or query.tag not in memory.seen or query.tag in receiver.published:
                continue
            label = owner.label(receiver.terms)
            # "if the query is new, or the customer was not of the list tier in the last run, or what its label says changed"
            if key in receiver.new or memory.said.get(key) != label:
                same("claim of an earlier tag", evaluator.memory.tags[query.tag].claim, query.claim)
                expected.append((query.tag, query.claim, label))
                self.accept(receiver, evaluator, query.tag, owner)
        found, frames = [], self.of(receiver.role, EARLIER_CLAIMS, flow)
        assert frames, "a delta run has earlier claims"
        for number, body in enumerate(frames, 1):
            reader = Reader(body)
            same("last frame of earlier claims", reader.number(1), int(number == len(frames)))
            count = reader.number(4)
            same("label bytes", reader.number(2), 17 + receiver.terms.field_bytes)
            parts = [reader.list(count, length) for length in (16, 16, 17 + receiver.terms.field_bytes)]
            reader.end()
            found += zip(*parts)
        same("earlier claims", found, sorted(expected))
        # "tags on which it made a claim in the epoch that does not hold any more"
        holds = {query.tag for key, query in memory.queries.items() if wanted[key].tier == LIST}
        frames = self.of(receiver.role, WITHDRAWALS, flow)
        assert frames, "a delta run has withdrawals"
        same("withdrawals", sorted(self.tags_of(frames)), sorted(memory.claims - holds))
        for tag in memory.claims - holds:
            del evaluator.memory.accepted[tag]
        memory.claims &= holds
        receiver.moved = len(found), self.tags_of(frames)

    def edges(self, receiver, evaluator, wanted):
        """What both sides know after the flow: off the response path, the receiver opens what it matched."""
        for key, query in receiver.memory.queries.items():
            if query.tag in receiver.memory.seen:
                label, session = receiver.memory.seen[query.tag]
                cipher = ChaCha20Poly1305(derive(b"OVL1/label", evaluator.context, session, query.master)[:32])
                plain = cipher.decrypt(bytes(12), label, query.tag)
                receiver.edges.add((wanted[key], plain[0], plain[1:17]))
        owners = evaluator.keys_of(LIST)
        for tag, (stage, pseudonym) in evaluator.memory.accepted.items():
            evaluator.edges.add((owners[evaluator.memory.tags[tag].key], stage, pseudonym))

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
            column = sum(len(members[other, j]) for other in reporter.terms.of_tier(COUNT))
            left = reader.stage_sizes[j] - len(claimed[j]) - column
            count = as_of = None
            if left >= k:
                count, as_of = self.release(reporter, (i, j), members[i, j], k)
            expected += bytes([i, j, count is not None])
            if count is not None:
                expected += u64(count) + u64(as_of)
            reader.reported[j, i] = count
        expected += reporter.sign(derive(b"OVL1/report", self.session, bytes([reporter.role]), expected))
        same("report", reports[0], expected)

    def release(self, reporter, cell, members, k):
        """Section 8.2, rules 3 and 4: the count of a cell and its time, or None if it is suppressed."""
        now, names = self.document["clock"], [stage.id for stage in reporter.terms.stages]
        # Members are remembered by what stays the same when the roles change.
        memory, cell = reporter.memory.released, (names[cell[0]], cell[1])
        if cell in memory:
            before, at, count = memory[cell]
            if len(before ^ members) < k or now < at + self.document["release_interval_s"]:
                return count, at
        elif len(members) < k:
            return None, None
        count = len(members) if len(members) >= k else None
        memory[cell] = members, now, count
        return count, now

    # Section 9

    def count_flow(self):
        both = all(party.terms.count_by_count for party in self.parties)
        runs = both and all(party.terms.of_tier(COUNT) for party in self.parties) and not self.previous
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
            body = bytes([party.role + 2 * bool(self.previous)]) + self.run + self.session + self.terms_hash
            for other, (head, count) in zip(self.parties, chains):
                body += other.id + u64(other.epoch) + other.voprf_public
                body += b"".join(map(u64, other.sizes)) + head + u64(count)
            salt, result = unhex(party.document["result_salt"]), unhex(party.document["result"])
            memory = party.memory
            memory.receipts += 1
            body += u64(memory.receipts) + receipt_head(memory.receipt) + derive(b"OVL1/result", salt, result)[:32]
            memory.receipt = body + party.sign(derive(b"OVL1/receipt", body))
            memory.said = party.labels()
            same("receipt", self.of(party.role, RECEIPT), [memory.receipt])

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
                    if tiers[0] == COUNT and not self.parties[0].terms.count_by_count:
                        same(f"cell {my_id} x {their_id}", (state, count), ("DISABLED", None))
                        continue
                    number = party.reported[i, j] if tiers[0] == LIST else party.counted[i, j]
                    shown = number is not None and number >= peer.terms.min_count
                    expected = ("COUNTED", number) if shown else ("SUPPRESSED", None)
                same(f"cell {my_id} x {their_id}", (state, count), expected)
                visible += expected[1] or 0
            same("shared customers", party.document["shared_customers"], visible)


def steps(document, previous):
    """Derives one run, and says what it went through."""
    run = Replay(document, previous)
    a, b = run.parties
    run.handshake()
    yield run, "hellos, key proofs, session, confirmations: ok"
    for receiver, evaluator in ((a, b), (b, a)):
        queries = run.list_flow(receiver, evaluator)
        line = f"list flow {receiver.role + 1}, {queries} queries, {evaluator.sizes[2]} tags"
        if previous and queries:
            void = len(evaluator.void) + evaluator.void_padding
            line += f", {void} removals, {receiver.moved[0]} earlier claims, {len(receiver.moved[1])} withdrawals"
        yield run, f"{line}: ok"
    for reporter, reader in ((a, b), (b, a)):
        run.reports(reporter, reader)
    yield run, "reports: ok"
    run.count_flow()
    yield run, "count flow: ok"
    run.receipts()
    yield run, "transcript roots and receipts: ok"
    run.results()
    yield run, "matrices and lists: ok"


def replay(document, previous=None, say=lambda line: None):
    """Derives one run; exits with what is wrong with it."""
    run = None
    try:
        for run, line in steps(document, previous):
            say(f"  {line}")
    except Exception as error:  # whatever the bytes of a recording lead to is a fault of the recording
        sys.exit(f"{type(error).__name__}: {error}")
    return run


def main():
    run = None
    for number, document in enumerate(json.loads(pathlib.Path(sys.argv[1]).read_text())["runs"], 1):
        print(f"run {number}, {'delta' if run else 'full'}")
        run = replay(document, run, print)


if __name__ == "__main__":
    main()
