"""The CUDA twins of the CPU tests: the same test, the CPU's answer as the truth."""
import json
import pathlib
import subprocess
import time

import host

PROGRAMS = ("compute_test", "pipeline_test", "executor_test", "engine_test")
# Values of a test parameter, or names of an instantiation: "Placed/LabelsTest.Fills/Cuda".
TWINS = "*/Cuda*:*/cuda*:Cuda*/*:cuda*/*"


def run_program(program, folder, filter_text, timeout_s):
    """{"program", "seconds", "exit_code", "passed", "failed": [{"test", "text"}], "skipped": [names]}; "not_measured"
    with the reason where there is no report."""
    report = folder / f"{program.name}.json"
    begin = time.monotonic()
    with open(folder / f"{program.name}.log", "wb") as log:
        try:
            done = subprocess.run([str(program), f"--gtest_filter={filter_text}", f"--gtest_output=json:{report}"],
                                  stdout=log, stderr=subprocess.STDOUT, env=host.program_environment(),
                                  timeout=timeout_s, cwd=folder)
        except subprocess.TimeoutExpired:
            return {"program": program.name, "not_measured": f"stopped after {timeout_s:.0f} s"}
    result = {"program": program.name, "seconds": round(time.monotonic() - begin, 1), "exit_code": done.returncode,
              "passed": 0, "failed": [], "skipped": []}
    if not report.exists():
        result["not_measured"] = f"it ended with {done.returncode} before it wrote its report"
        return result
    for suite in json.loads(report.read_text()).get("testsuites", []):
        for test in suite.get("testsuite", []):
            name = f"{suite['name']}.{test['name']}"
            if test.get("failures"):
                result["failed"].append({"test": name, "text": test["failures"][0]["failure"][:600]})
            elif test.get("result") == "SKIPPED":
                result["skipped"].append(name)
            else:
                result["passed"] += 1
    return result


def run(device, folder, deadline, all_tests, add):
    """Runs the twins of each program; True when nothing failed and, on a GPU, something ran."""
    folder = pathlib.Path(folder)
    good, passed = True, 0
    for name in PROGRAMS:
        program = host.PACK / "bin" / name
        if not program.exists():
            add({"kind": "parity", "program": name, "not_measured": "the pack does not hold it"})
            continue
        item = run_program(program, folder, "*" if all_tests else TWINS, max(20, min(150, deadline - time.monotonic())))
        good = good and "not_measured" not in item and not item["failed"] and item["exit_code"] == 0
        passed += item.get("passed", 0)
        add({"kind": "parity", **item})
        for failed in item.get("failed", []):
            host.say(f"FAILED {failed['test']}: {failed['text']}")
    return good and (device == "cpu" or passed > 0)
