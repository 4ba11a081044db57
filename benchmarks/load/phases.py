"""`tomoctl load` against one server, one phase after the other."""
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "system")]
from conftest import Server, tomoctl  # noqa: E402

__all__ = ["ROOT", "SIZES", "Load", "Server"]

SIZES = "64x40:0.8,100x40:0.19,128x80:0.01"
SPACING = "2.2,2.2,3.5"


class Load:
    """Runs phases; keeps their reports, and the rows of their CSV files in `folder`. `options` has model, sizes, seed and
    seconds."""

    def __init__(self, server, folder, options):
        self.server, self.folder, self.options = server, folder, options
        events = [json.loads(line) for line in server.text().splitlines() if line.startswith("{")]
        port = [event["port"] for event in events if event["event"] == "metrics"][-1]
        self.metrics = f"http://127.0.0.1:{port}/metrics"
        self.phases = {}

    def phase(self, name, *how, longer=1):
        print(f"{name} ...", file=sys.stderr, flush=True)
        options, seconds = self.options, longer * self.options.seconds
        table = self.folder / f"load-{name.replace(' ', '-')}.csv"
        done = tomoctl("load", "--model", options.model, "--sizes", options.sizes, "--spacing", SPACING, "--seed", options.seed,
                       "--warm-up", seconds / 6, "--duration", seconds, "--metrics", self.metrics, "--csv", table, "--json",
                       *how, server=self.server, check=False)
        if not done.stdout:
            sys.exit(f"{name}: {done.stderr}")
        self.phases[name] = json.loads(done.stdout)
        return self.phases[name]
