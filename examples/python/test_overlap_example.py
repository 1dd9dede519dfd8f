"""Runs the example against a node in this process that gives canned answers.

    python -m unittest discover examples/python
"""

import io
import unittest
from concurrent import futures

import grpc
import overlap_example
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

TOKEN = "let-me-in"
(PARTNERSHIP, PARTNERSHIP_SERVICES), (OVERLAP, OVERLAP_SERVICES) = (
    overlap_example.stubs(overlap_example.REPOSITORY / "proto")
)


def refuse(context, code, reason, message):
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="overlap"))
    status = status_pb2.Status(code=code, message=message, details=[detail])
    context.abort_with_status(rpc_status.to_status(status))


def admit(context):
    if ("authorization", f"Bearer {TOKEN}") not in context.invocation_metadata():
        refuse(context, 16, "UNAUTHENTICATED", "no valid bearer token")


class Partnerships(PARTNERSHIP_SERVICES.PartnershipServiceServicer):
    def ListPartnerships(self, request, context):
        admit(context)
        assert request.connected_only
        names = {"": ("Globex", "2"), "2": ("Initech", "")}
        name, next_page_token = names[request.page_token]
        return PARTNERSHIP.ListPartnershipsResponse(
            partnerships=[
                PARTNERSHIP.Partnership(id=name.lower(), organization=name)
            ],
            next_page_token=next_page_token,
        )


class Overlaps(OVERLAP_SERVICES.OverlapServiceServicer):
    def GetMatrix(self, request, context):
        admit(context)
        if request.partner == "initech":
            refuse(
                context, 9, "SHARING_NOT_ACTIVE", "sharing with Initech is not active"
            )
        cells = [
            OVERLAP.Cell(
                mine="Lead", theirs="Won", state=OVERLAP.CELL_STATE_LISTED, count=0
            ),
            OVERLAP.Cell(
                mine="Lead", theirs="Lost", state=OVERLAP.CELL_STATE_NOT_SHARED
            ),
        ]
        return OVERLAP.GetMatrixResponse(
            matrix=OVERLAP.Matrix(
                partner=request.partner, cells=cells, shared_customers=7
            )
        )

    def ListSharedCustomers(self, request, context):
        admit(context)
        customers = [
            OVERLAP.SharedCustomer(
                id=f"c{number}", name="Ünï", mine="Lead", theirs="Won"
            )
            for number in range(request.page_size)
        ]
        return OVERLAP.ListSharedCustomersResponse(
            customers=customers, next_page_token="more", total_size=7
        )


class Example(unittest.TestCase):
    def setUp(self):
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
        PARTNERSHIP_SERVICES.add_PartnershipServiceServicer_to_server(
            Partnerships(), self.server
        )
        OVERLAP_SERVICES.add_OverlapServiceServicer_to_server(Overlaps(), self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def tearDown(self):
        self.channel.close()
        self.server.stop(None).wait()

    def test_it_prints_matrix_and_first_customers(self):
        out = io.StringIO()
        overlap_example.show(overlap_example.Node(self.channel, TOKEN), 2, out)
        self.assertEqual(
            out.getvalue(),
            "Globex\n"
            "  Lead         x Won                 0  LISTED\n"
            "  Lead         x Lost                -  NOT_SHARED\n"
            "  shared customers: 7\n"
            "  c0: Ünï (Lead here, Won there)\n"
            "  c1: Ünï (Lead here, Won there)\n"
            "Initech\n"
            "  sharing with Initech is not active [SHARING_NOT_ACTIVE]\n",
        )

    def test_a_wrong_token_is_refused(self):
        node = overlap_example.Node(self.channel, "wrong")
        with self.assertRaises(grpc.RpcError) as caught:
            list(node.connected())
        self.assertEqual(
            overlap_example.describe(caught.exception),
            "no valid bearer token [UNAUTHENTICATED]",
        )


if __name__ == "__main__":
    unittest.main()
