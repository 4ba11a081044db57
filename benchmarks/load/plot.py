"""The plot of a load run: what each study waited, and how many runs waited meanwhile."""
import csv
import math
import pathlib
import sys

from PIL import Image, ImageDraw

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools")]
from report.picture import font  # noqa: E402

WIDTH, HEIGHT = 1200, 860
LEFT, RIGHT = 90, 1170
PANELS = ((70, 500), (590, 800))  # top and bottom
INK, GRID = (30, 30, 30), (222, 222, 222)
SERIES = {"routine": ("full queue", "routine", (150, 160, 170)), "stat": ("full queue", "stat", (204, 51, 17)),
          "alone": ("stat alone", "stat", (0, 119, 187))}
NAMES = {"routine": "routine, full queue", "stat": "STAT, full queue", "alone": "STAT alone"}


def points_of(folder, phase, priority):
    """(seconds after the start, latency) of the completed studies."""
    with open(folder / f"load-{phase.replace(' ', '-')}.csv", newline="") as file:
        return [(float(row["intended_s"]), float(row["latency_s"])) for row in csv.DictReader(file)
                if row["priority"] == priority and row["latency_s"]]


def step_of(most, parts=4):
    """The largest round step that divides an axis into at least so many parts."""
    power = 10.0 ** math.floor(math.log10(most / parts))
    return max(digit * power for digit in (1, 2, 5) if digit * power <= most / parts)


class Panel:
    def __init__(self, pen, place, seconds, low, high, logarithmic):
        self.pen, (self.top, self.bottom), self.seconds = pen, place, seconds
        self.low, self.high, self.logarithmic = low, high, logarithmic

    def at(self, x, y):
        if self.logarithmic:
            share = math.log(max(y, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (y - self.low) / (self.high - self.low)
        return LEFT + (RIGHT - LEFT) * x / self.seconds, self.bottom - (self.bottom - self.top) * min(share, 1)

    def axes(self, title):
        small = font(16)
        step = step_of(self.seconds)
        for n in range(int(self.seconds / step) + 1):
            x, _ = self.at(n * step, self.low)
            self.pen.line((x, self.top, x, self.bottom), GRID)
            self.pen.text((x, self.bottom + 8), f"{n * step:g}", INK, small, anchor="ma")
        for value in self.values():
            _, y = self.at(0, value)
            self.pen.line((LEFT, y, RIGHT, y), GRID)
            self.pen.text((LEFT - 8, y), f"{value:g}", INK, small, anchor="rm")
        self.pen.text((LEFT, self.top - 28), title, INK, font(18, bold=True), anchor="la")
        self.pen.text((RIGHT, self.bottom + 30), "seconds after the start", INK, small, anchor="ra")

    def values(self):
        if self.logarithmic:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            marks = [digit * 10.0**power for power in range(first, last + 1) for digit in (1, 2, 5)]
            return [mark for mark in marks if self.low <= mark <= self.high * 1.0001]
        step = max(step_of(self.high), 1)
        return [n * step for n in range(int(self.high / step) + 1)]


def draw(folder, record, file):
    """Latency by arrival time, and the queue, of the phases "stat alone" and "full queue"."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    series = {name: points_of(folder, phase, priority) for name, (phase, priority, _) in SERIES.items()}
    every = [point for points in series.values() for point in points] or [(0, 1)]
    samples = (record["phases"]["full queue"].get("server") or {}).get("samples", [])
    seconds = max([x for x, _ in every] + [sample["at_s"] for sample in samples] + [1])
    low, high = min(y for _, y in every) * 0.9, max(y for _, y in every) * 1.1
    latency = Panel(pen, PANELS[0], seconds, max(low, 1e-3), high, True)
    latency.axes("From the intended arrival to the result, s")
    for name, points in series.items():
        for x, y in points:
            x, y = latency.at(x, y)
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), SERIES[name][2])
    x = RIGHT
    for name in reversed(SERIES):
        pen.text((x, PANELS[0][0] - 28), NAMES[name], SERIES[name][2], font(16), anchor="ra")
        x -= pen.textlength(NAMES[name], font(16)) + 24
    queues = {name: [(sample["at_s"], sample["waiting"].get(name, 0)) for sample in samples] for name in ("ROUTINE", "STAT")}
    most = max([y for points in queues.values() for _, y in points] + [1])
    waiting = Panel(pen, PANELS[1], seconds, 0, most * 1.1, False)
    waiting.axes("Runs that wait, full queue")
    for name, points in queues.items():
        colour = SERIES[name.lower()][2]
        if len(points) > 1:
            pen.line([waiting.at(x, y) for x, y in points], colour, 3)
    image.save(file, optimize=True)
