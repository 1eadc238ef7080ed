"""Runs clients that others wrote against the built program, over real sockets.

    .venv/bin/python tests/clients/run.py --program target/checked/fanfare [NAME…]

Ports are picked by the kernel and every wait is bounded. A client that is not installed fails the
run: `scripts/test` installs them. NAME is a class or a test, such as `NodeWs`.
"""

import argparse
import sys
import unittest
from pathlib import Path

import support


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", required=True, type=Path, help="the built program")
    parser.add_argument("--no-browser", action="store_true", help="leave the browser out")
    parser.add_argument("name", nargs="*", help="a class or a test to run, all when absent")
    arguments = parser.parse_args()
    if not arguments.program.is_file():
        parser.error(f"no program at {arguments.program}; cargo build --profile checked")
    support.PROGRAM = str(arguments.program.resolve())

    chosen = unittest.TestSuite()
    left_out = 0
    for test in flat(unittest.defaultTestLoader.discover(support.HERE)):
        browser = "Browser" in type(test).__name__
        if arguments.name and not set(arguments.name) & set(test.id().split(".")):
            continue
        if browser and arguments.no_browser:
            left_out += 1
        else:
            chosen.addTest(test)
    result = unittest.TextTestRunner(verbosity=2).run(chosen)
    failed = len(result.failures) + len(result.errors)
    print(f"clients: {result.testsRun - failed} passed, {failed} failed, {left_out} left out")
    sys.exit(0 if result.testsRun > 0 and failed == 0 else 1)


def flat(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


if __name__ == "__main__":
    main()
