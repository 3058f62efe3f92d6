"""What holds under attack: each attack is run against the code as it is, for a bounded time, on this machine alone.

  python -m benchmarks.attacks                         all, the server's on an export that it makes of a preset
  python -m benchmarks.attacks --only inputs resume    some, by how their names begin
  python -m benchmarks.attacks --list
  python -m benchmarks.attacks --only "stalled uploads" overload --export exports/mnist --seconds 20

On training and its data: hostile inputs, a resume on other data, damage, links, signals, locks. On the server: while
it is attacked, one bystander asks /healthz and another for a prediction of one row, each on a new connection every
time, and the server's memory and log are looked at. Exits with 1 if a goal is missed.
"""

import argparse
import pathlib
import sys

from . import attacks_on_server, faults

# Each has ATTACKS by name, and attack(names, options) -> whether all goals were met.
GROUPS = (faults, attacks_on_server)


def main():
    parser = argparse.ArgumentParser(
        "benchmarks.attacks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORDS", help="attacks whose names begin so")
    parser.add_argument("--list", action="store_true", help="print the names of the attacks")
    parser.add_argument("--seconds", type=float, default=8.0, help="of most attacks (default: %(default)s)")
    parser.add_argument("--export", type=pathlib.Path, help="what python -m export wrote, to be served")
    parser.add_argument(
        "--gigabytes", type=float, default=1.0, help="that reading data may take (default: %(default)s)"
    )
    options = parser.parse_args()
    met = []
    for group in GROUPS:
        names = [name for name in group.ATTACKS if name.startswith(tuple(options.only))]
        if options.list:
            print(*names, sep="\n")
        elif names:
            met.append(group.attack(names, options))
    if not met and not options.list:
        parser.error(f"--only: expected beginnings of names that --list prints. Received: {' '.join(options.only)}.")
    sys.exit(not all(met))


if __name__ == "__main__":
    main()
