"""Runs the example against two real nodes that have matched their customers.

    cargo build -p overlap-server --bin overlapd
    OVERLAPD=target/debug/overlapd python -m unittest discover examples/python
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest

EXAMPLE = pathlib.Path(__file__).with_name("overlap_example.py")
OVERLAPD = os.environ.get("OVERLAPD")


@unittest.skipUnless(OVERLAPD, "OVERLAPD does not name the node's program")
class RealNodes(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.nodes = subprocess.Popen(
            [OVERLAPD, "demo", "--serve", "--dir", folder.name],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.stop)
        said = ""
        for line in self.nodes.stderr:
            said += line
            if "Both nodes are up" in line:
                return
        self.fail(said)

    def stop(self):
        self.nodes.send_signal(signal.SIGINT)
        self.nodes.stderr.close()
        self.assertEqual(self.nodes.wait(timeout=30), 0)

    def example(self, *arguments):
        return subprocess.run(
            [sys.executable, EXAMPLE, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    def test_both_sides_print_their_matrix_and_first_customers(self):
        for name, partner in (("A", "Beacon Billing"), ("B", "Aurora CRM")):
            shown = self.example("--dir", self.folder / name, "--limit", "3")
            self.assertEqual(shown.returncode, 0, shown.stderr)
            lines = shown.stdout.splitlines()
            self.assertEqual(lines[0], partner)
            self.assertRegex(shown.stdout, r"Customer +x Customer +\d+  LISTED\n")
            self.assertRegex(shown.stdout, r"shared customers: \d+\n")
            self.assertEqual(
                sum(bool(re.search(r"\(.+ here, .+ there\)$", line)) for line in lines), 3
            )

    def test_a_wrong_token_is_refused(self):
        (self.folder / "A" / "admin.token").write_text("wrong")
        refused = self.example("--dir", self.folder / "A")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("[UNAUTHENTICATED]", refused.stderr)


if __name__ == "__main__":
    unittest.main()
