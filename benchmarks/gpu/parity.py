"""The CUDA twins of the CPU tests: the same test, the CPU's answer as the truth."""
import fnmatch
import pathlib
import subprocess
import time
import xml.etree.ElementTree

import host

PROGRAMS = ("compute_test", "pipeline_test", "executor_test", "engine_test")
# Values of a test parameter, or names of an instantiation: "Placed/LabelsTest.Fills/Cuda".
TWINS = "*/Cuda*:*/cuda*:*_Cuda:Cuda*/*:cuda*/*"
# How tests say that they need data which is not part of the project (tests/shared_data.h), so not of the pack either.
NO_DATA = "shared data absent"
TEXT = 600  # characters of what a test says


def is_twin(test):
    return any(fnmatch.fnmatchcase(test, pattern) for pattern in TWINS.split(":"))


def text_of(element):
    """What a test says, without the place in the source that stands on the first line."""
    lines = element.get("message", "").splitlines()
    return " ".join(lines[1:] or lines)[:TEXT]


def read_report(report):
    """{"passed": number, "failed" and "skipped": [{"test", "text"}]} of a report in JUnit's format."""
    result = {"passed": 0, "failed": [], "skipped": []}
    for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        failures, skips = case.findall("failure"), case.findall("skipped")
        if failures:
            result["failed"].append({"test": name, "text": failures[0].get("message", "")[:TEXT]})
        elif skips or case.get("result") == "skipped":
            result["skipped"].append({"test": name, "text": text_of(skips[0]) if skips else ""})
        elif case.get("status") == "run":
            result["passed"] += 1
    return result


def run_program(program, folder, filter_text, deadline):
    """{"program", "seconds", "exit_code", "passed", "failed": [{"test", "text"}], "skipped": [{"test", "text"}]};
    "not_measured" with the reason where there is no report."""
    report = folder / f"{program.name}.xml"
    begin = time.monotonic()
    with open(folder / f"{program.name}.log", "wb") as log:
        try:
            done = subprocess.run([str(program), f"--gtest_filter={filter_text}", f"--gtest_output=xml:{report}"],
                                  stdout=log, stderr=subprocess.STDOUT, env=host.program_environment(),
                                  timeout=host.left(deadline), cwd=folder)
        except subprocess.TimeoutExpired:
            return {"program": program.name, "cut": True,
                    "not_measured": f"stopped after {time.monotonic() - begin:.0f} s, when its time was up"}
    result = {"program": program.name, "seconds": round(time.monotonic() - begin, 1), "exit_code": done.returncode,
              "passed": 0, "failed": [], "skipped": []}
    try:
        result.update(read_report(report))
    except (OSError, xml.etree.ElementTree.ParseError):
        result["not_measured"] = f"it ended with {done.returncode} before it wrote its report"
    return result


def wrongly_skipped(device, skipped):
    """Names of the twins that did not run although a GPU was named. Only what needs data that the pack does not hold
    may be skipped."""
    if device == "cpu":
        return []
    return [skip["test"] for skip in skipped if is_twin(skip["test"]) and not skip["text"].startswith(NO_DATA)]


def run(device, folder, deadline, all_tests, add):
    """Runs the twins of each program; True when nothing failed and, on a GPU, every twin ran."""
    folder = pathlib.Path(folder)
    good, passed = True, 0
    for name in PROGRAMS:
        program = host.PACK / "bin" / name
        if not program.exists():
            add({"kind": "parity", "program": name, "not_measured": "the pack does not hold it"})
            good = False
            continue
        item = run_program(program, folder, "*" if all_tests else TWINS, deadline)
        item["wrongly_skipped"] = wrongly_skipped(device, item.get("skipped", []))
        good = good and "not_measured" not in item and not item["failed"] and item["exit_code"] == 0 \
            and not item["wrongly_skipped"]
        passed += item.get("passed", 0)
        add({"kind": "parity", **item})
        for failed in item.get("failed", []):
            host.say(f"FAILED {failed['test']}: {failed['text']}")
        for test in item["wrongly_skipped"]:
            host.say(f"SKIPPED although there is a GPU: {test}")
    return good and (device == "cpu" or passed > 0)
