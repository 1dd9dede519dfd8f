#!/usr/bin/env python3
"""Reads an Overlap node from Python: partnerships, the matrix, the first shared customers.

The stubs are generated when the program starts, from the .proto files of this repository.
"""

import argparse
import json
import pathlib
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DEADLINE_S = 30


def stubs(proto_dir):
    """Returns the modules of messages and services of partnership.proto and overlap.proto."""
    # grpc looks for .proto files where Python looks for modules.
    sys.path.insert(0, str(proto_dir))
    try:
        return tuple(
            grpc.protos_and_services(f"overlap/v1/{name}.proto")
            for name in ("partnership", "overlap")
        )
    finally:
        sys.path.remove(str(proto_dir))


class Node:
    """A node, its token and the calls this example needs."""

    def __init__(self, channel, token, proto_dir=REPOSITORY / "proto"):
        (self.partnership, partnership), (self.overlap, overlap) = stubs(proto_dir)
        self.partnerships = partnership.PartnershipServiceStub(channel)
        self.overlaps = overlap.OverlapServiceStub(channel)
        self.call = {
            "metadata": [("authorization", f"Bearer {token}")],
            "timeout": DEADLINE_S,
        }

    def connected(self):
        """Every connected partnership, a page at a time."""
        request = self.partnership.ListPartnershipsRequest(connected_only=True)
        while True:
            answer = self.partnerships.ListPartnerships(request, **self.call)
            yield from answer.partnerships
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    def matrix(self, partner):
        request = self.overlap.GetMatrixRequest(partner=partner)
        return self.overlaps.GetMatrix(request, **self.call).matrix

    def first_shared(self, partner, limit):
        """The first shared customers, and why there are none if there are none."""
        request = self.overlap.ListSharedCustomersRequest(
            partner=partner, page_size=limit
        )
        answer = self.overlaps.ListSharedCustomers(request, **self.call)
        reason = self.overlap.EmptyReason.Name(answer.empty_reason)
        return list(answer.customers)[:limit], reason.removeprefix("EMPTY_REASON_")


def show_matrix(node, matrix, out):
    """One line a cell: a count only where there is one, for unknown is not 0."""
    for cell in matrix.cells:
        state = node.overlap.CellState.Name(cell.state).removeprefix("CELL_STATE_")
        count = str(cell.count) if cell.HasField("count") else "-"
        print(f"  {cell.mine:<12} x {cell.theirs:<12} {count:>8}  {state}", file=out)
    total = (
        matrix.shared_customers if matrix.HasField("shared_customers") else "not known"
    )
    print(f"  shared customers: {total}", file=out)


def show(node, limit, out=sys.stdout):
    for partnership in node.connected():
        print(partnership.organization, file=out)
        try:
            show_matrix(node, node.matrix(partnership.id), out)
            customers, empty_reason = node.first_shared(partnership.id, limit)
        except grpc.RpcError as error:
            # Without a run or an agreement yet there is nothing to read: go on with the next partner.
            if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                raise
            print(f"  {describe(error)}", file=out)
            continue
        for customer in customers:
            print(
                f"  {customer.id}: {customer.name} ({customer.mine} here, {customer.theirs} there)",
                file=out,
            )
        if not customers:
            print(f"  none listed: {empty_reason}", file=out)


def describe(error):
    """The node's sentence and its stable reason."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return f"{error.details()} [{info.reason}]"
    return f"{error.details()} [{error.code().name}]"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--dir", type=pathlib.Path, help="directory of a node on this machine"
    )
    where.add_argument("--node", metavar="HOST:PORT", help="address of a node with TLS")
    parser.add_argument(
        "--token-file", type=pathlib.Path, help="bearer token, with --node"
    )
    parser.add_argument(
        "--tls-ca", type=pathlib.Path, help="PEM file of the authority to trust"
    )
    parser.add_argument(
        "--limit", type=int, default=5, help="shared customers a partner"
    )
    given = parser.parse_args()
    if given.node and not given.token_file:
        parser.error("--node needs --token-file")
    return given


def connect(given):
    """The channel and the token."""
    if given.dir:
        # A node serves its own machine without TLS on loopback.
        addresses = json.loads((given.dir / "run" / "addresses.json").read_text())
        token = (given.dir / "admin.token").read_text().strip()
        return grpc.insecure_channel(addresses["api"]), token
    authority = given.tls_ca.read_bytes() if given.tls_ca else None
    credentials = grpc.ssl_channel_credentials(root_certificates=authority)
    return grpc.secure_channel(
        given.node, credentials
    ), given.token_file.read_text().strip()


def main():
    given = arguments()
    try:
        channel, token = connect(given)
        with channel:
            show(Node(channel, token), given.limit)
    except grpc.RpcError as error:
        sys.exit(f"error: {describe(error)}")
    except OSError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
