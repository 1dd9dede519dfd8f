"""One party of SecretFlow SPU's ECDH PSI: spu_party.py RANK COUNT DIRECTORY PORT_A PORT_B CURVE."""

import sys

import spu.libspu as libspu
import spu.psi as psi

from sets import cpu_seconds, emails, report


def main() -> None:
    rank, count, directory = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    ports, curve = sys.argv[4:6], sys.argv[6]
    source = f"{directory}/in-{rank}.csv"
    with open(source, "w", encoding="ascii") as file:
        file.write("id\n")
        file.writelines(f"{email}\n" for email in emails("ab"[rank], count))

    description = libspu.link.Desc()
    for party, port in enumerate(ports):
        description.add_party(f"party-{party}", f"127.0.0.1:{port}")
    link = libspu.link.create_brpc(description, rank)
    config = psi.PsiExecuteConfig(
        protocol_conf=psi.PsiProtocolConfig(
            protocol=psi.PsiProtocol.PROTOCOL_ECDH,
            receiver_rank=0,
            broadcast_result=True,
            ecdh_params=psi.EcdhParams(curve=psi.parse_curve_type(curve)),
        ),
        input_params=psi.InputParams(path=source, selected_keys=["id"], keys_unique=True),
        output_params=psi.OutputParams(path=f"{directory}/out-{rank}.csv", disable_alignment=True),
    )
    before = cpu_seconds()
    report(psi.psi_execute(config, link).intersection_count, before)
    link.stop_link()


if __name__ == "__main__":
    main()
