"""Runs Overlap and its peers on the same sets, in turn, and compares the CPU time of both parties together."""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))

PROMISES = {
    "overlap": "malicious (list flows), labelled, mTLS, durable",
    "spu-curve25519": "semi-honest, one leaked bit an item, no labels, plain link",
    "spu-elligator2": "semi-honest, no labels, plain link",
    "openmined": "semi-honest, no labels, in memory, one process",
}


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def measured(commands: list[list[str]], cpus: list[set[int]]) -> dict:
    """Runs the commands side by side, each on its CPUs; what they used together."""
    started = time.monotonic()
    processes = [
        subprocess.Popen(
            command,
            cwd=HERE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda allowed=allowed: os.sched_setaffinity(0, allowed),
        )
        for command, allowed in zip(commands, cpus)
    ]
    outputs = [process.communicate() for process in processes]
    wall = time.monotonic() - started
    for process, (_, errors) in zip(processes, outputs):
        if process.returncode != 0:
            sys.exit(f"{process.args}: exit status {process.returncode}\n{errors[-2000:]}")
    reports = [re.search(r"^RESULT (\d+) ([\d.]+)$", output, re.MULTILINE) for output, _ in outputs]
    return {
        "wall_s": wall,
        "cpu_s": sum(float(report[2]) for report in reports),
        "matched": int(reports[0][1]),
    }


def spu(curve: str, count: int, cpus: list[set[int]]) -> dict:
    with tempfile.TemporaryDirectory() as directory:
        ports = [str(port) for port in free_ports(2)]
        commands = [
            [sys.executable, "spu_party.py", str(rank), str(count), directory, *ports, curve] for rank in range(2)
        ]
        return measured(commands, cpus)


def openmined(count: int, cpus: list[set[int]]) -> dict:
    return measured([[sys.executable, "openmined_both.py", str(count)]], [cpus[0] | cpus[1]])


def overlap(binary: str, count: int, pin: str) -> dict:
    command = [binary, "--customers", str(count), "--pin", pin, "--output", "json"]
    result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return {
        "wall_s": result["wall_s"],
        "cpu_s": sum(node["cpu_s"] for node in result["nodes"].values()),
        "matched": result["matched"],
        "detail": result,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--whole-run", required=True, help="the whole-run binary")
    arguments.add_argument("--customers", type=int, default=1 << 20, help="customers a side")
    arguments.add_argument("--pin", choices=["one", "two"], default="one", help="all processes on one CPU, or one party a CPU")
    arguments.add_argument("--only", default=",".join(PROMISES), help="comma-separated systems")
    arguments.add_argument("--output", choices=["table", "json"], default="table")
    options = arguments.parse_args()
    systems = options.only.split(",")
    if unknown := [name for name in systems if name not in PROMISES]:
        arguments.error(f"--only {','.join(unknown)}: the systems are {', '.join(PROMISES)}")

    cpus = [{0}, {0}] if options.pin == "one" else [{0}, {1}]
    count = options.customers
    runs = {
        "overlap": lambda: overlap(options.whole_run, count, options.pin),
        "spu-curve25519": lambda: spu("CURVE_25519", count, cpus),
        "spu-elligator2": lambda: spu("CURVE_25519_ELLIGATOR2", count, cpus),
        "openmined": lambda: openmined(count, cpus),
    }
    results = {}
    for name in systems:
        results[name] = runs[name]() | {"promises": PROMISES[name]}
        if results[name]["matched"] != count // 2:
            sys.exit(f"{name} matched {results[name]['matched']} of {count // 2} shared customers")

    if options.output == "json":
        json.dump({"customers": count, "pin": options.pin, "systems": results}, sys.stdout, indent=2)
        print()
        return
    own = results.get("overlap", {}).get("cpu_s")
    print(f"{count} customers a side, half of them shared; {options.pin} CPU" + ("s" if options.pin == "two" else ""))
    print(f"{'system':<16}{'CPU s':>9}{'wall s':>9}{'overlap / it':>14}  promises")
    for name, result in results.items():
        ratio = f"{own / result['cpu_s']:.2f}" if own else "-"
        print(f"{name:<16}{result['cpu_s']:>9.1f}{result['wall_s']:>9.1f}{ratio:>14}  {result['promises']}")


if __name__ == "__main__":
    main()
