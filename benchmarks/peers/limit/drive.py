"""Measure the limit of this server: the same bytes as bare pipelined commands; prints one line of JSON."""

import argparse
import asyncio
import json

from benchmarks import limit
from benchmarks.stage import worker_on
from turnstream.settings import load_settings


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--url", required=True, help="the server, as redis://host:port")
    parser.add_argument("--commands", type=int, default=80_000)
    parser.add_argument("--sessions", type=int, default=100)
    options = parser.parse_args()
    with worker_on(options.url):
        sample = asyncio.run(limit.sample(load_settings().at(options.url)))
    limit.measure(options.url, sample, options.commands // 4, options.sessions)  # warms up
    print(json.dumps(limit.measure(options.url, sample, options.commands, options.sessions)))


if __name__ == "__main__":
    main()
