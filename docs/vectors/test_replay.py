"""The replay notices: a recording with a byte changed in a frame of any kind, or with a frame less, is no replay of the run.

    python -m unittest discover docs/vectors         # after the recordings are written, see replay.py
"""

import copy
import functools
import json
import pathlib
import struct
import types
import unittest

import replay

TARGET = pathlib.Path(__file__).parent / "../../target"
HEADER = struct.Struct(">BBBQI")

# The same arithmetic again and again: only what follows the change is new.
for name in ("add", "base", "hash_to_group", "multiply", "sub", "Generator"):
    setattr(replay, name, functools.lru_cache(maxsize=None)(getattr(replay, name)))


def entries(recording):
    """The entries of a recording: (header, body)."""
    found, at = [], 8
    while at < len(recording):
        header = HEADER.unpack_from(recording, at)
        at += HEADER.size
        found.append((header, recording[at : at + header[4]]))
        at += header[4]
    return found


def recording(found):
    """The recording of these entries."""
    return b"OVLREC1\n" + b"".join(HEADER.pack(*header[:4], len(body)) + body for header, body in found)


def changed(document, change):
    """The run with both recordings changed alike, so that it is not their difference that is noticed."""
    document = copy.copy(document)
    document["sides"] = [
        dict(side, recording=recording(change(entries(bytes.fromhex(side["recording"])))).hex())
        for side in document["sides"]
    ]
    return document


def remembered(run):
    """A run as the next one goes on from it, which may forget what it likes."""
    if run is None:
        return None
    parties = [types.SimpleNamespace(id=party.id, memory=copy.deepcopy(party.memory)) for party in run.parties]
    return types.SimpleNamespace(querier=run.querier, parties=parties)


class Replays(unittest.TestCase):
    def notices(self, document, previous, change, what):
        with self.subTest(what):
            with self.assertRaises(SystemExit) as caught:
                replay.replay(changed(document, change), remembered(previous))
            # A text: the exit code is 1, and the fault is named.
            self.assertIsInstance(caught.exception.code, str)
            self.assertTrue(caught.exception.code)

    def every_kind(self, document, previous, kinds, places):
        seen = {}
        for header, body in entries(bytes.fromhex(document["sides"][0]["recording"])):
            if header[0] < 2 and header[2] != replay.ACK and body:
                seen.setdefault(header[:3], (header, len(body)))
        self.assertEqual({kind for _, _, kind in seen}, set(kinds))
        for (sender, flow, kind), (header, length) in seen.items():
            for at in {round(place * (length - 1)) for place in places}:

                def flip(found):
                    return [
                        (h, b[:at] + bytes([b[at] ^ 1]) + b[at + 1 :] if h == header else b) for h, b in found
                    ]

                self.notices(document, previous, flip, f"kind {kind} of {sender} in flow {flow}, byte {at}")
            drop = lambda found: [(h, b) for h, b in found if h != header]
            self.notices(document, previous, drop, f"kind {kind} of {sender} in flow {flow} is missing")

    SESSION = (replay.HELLO, replay.CONFIRM, replay.REPORT, replay.RECEIPT)
    LISTS = (replay.QUERY, replay.EVALUATION, replay.COMMITMENTS, replay.SLICE, replay.CLAIMS)
    COUNT = (replay.COUNT_COMMIT, replay.COUNT_OPEN, replay.COUNT_ELEMENTS, replay.COUNT_RETURNS)
    DELTA = (replay.REMOVALS, replay.EARLIER_CLAIMS, replay.WITHDRAWALS)

    def test_a_full_run_changed_anywhere_is_noticed(self):
        (document,) = json.loads((TARGET / "replay.json").read_text())["runs"]
        self.assertIsNotNone(replay.replay(document))
        self.every_kind(document, None, self.SESSION + self.LISTS + self.COUNT, (0, 0.5, 1))

    def test_a_delta_run_changed_anywhere_is_noticed(self):
        full, document, _ = json.loads((TARGET / "replay-delta.json").read_text())["runs"]
        before = replay.replay(full)
        self.assertIsNotNone(replay.replay(document, remembered(before)))
        self.every_kind(document, before, self.SESSION + self.LISTS + self.DELTA, (0.5,))


if __name__ == "__main__":
    unittest.main()
