"""Both parties of OpenMined's PSI in one process: openmined_both.py COUNT."""

import sys

import private_set_intersection.python as psi

from sets import cpu_seconds, emails, report


def main() -> None:
    count = int(sys.argv[1])
    a, b = emails("a", count), emails("b", count)
    before = cpu_seconds()
    client = psi.client.CreateWithNewKey(True)
    server = psi.server.CreateWithNewKey(True)
    setup = server.CreateSetupMessage(1e-9, count, b, psi.DataStructure.GCS)
    response = server.ProcessRequest(client.CreateRequest(a))
    report(len(client.GetIntersection(setup, response)), before)


if __name__ == "__main__":
    main()
