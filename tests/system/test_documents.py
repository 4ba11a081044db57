"""What the documents name is there: scripts and their options, build targets, presets, paths, verbs, links."""
import functools
import json
import re
import shlex
import subprocess

import pytest
from conftest import BIN, ROOT

DOCUMENTS = sorted(path.relative_to(ROOT) for pattern in ("*.md", "docs/**/*.md", "docker/*.md", "examples/*/*.md", "tools/**/*.md")
                   for path in ROOT.glob(pattern) if path.name != "CHANGELOG.md")  # which tells of what was
FOLDERS = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
PATH = re.compile(rf"(?:\./)?(?:{'|'.join(FOLDERS + ['build'])})/[\w./*@-]+")
PLACEHOLDER = re.compile(r"[<>{}$…]")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
SHELL = ("", "sh", "bash", "shell")
COMMAND_END = re.compile(r"&&|\|\||[|;\n]")


def pieces_of(text):
    """Code of a document: shell blocks and code spans."""
    blocks = [code.replace("\\\n", " ") for language, code in FENCE.findall(text) if language in SHELL]
    rest = FENCE.sub("", text)
    # Four spaces after an empty line make a block too.
    blocks += re.findall(r"\n\n((?:    [^\n]*\n)+)", rest)
    return blocks + [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", rest)]


def words_of(command):
    try:
        words = shlex.split(command, comments=True)
    except ValueError:  # no shell after all
        words = command.split()
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    return words


@functools.lru_cache(None)
def help_of(program, *verb):
    done = subprocess.run([str(BIN / program), *verb, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.lru_cache(None)
def verbs(*of):
    """Of tomoctl, or of one of its verbs."""
    return set(re.findall(r"^  ([a-z][a-z-]*)\s", help_of("tomoctl", *of).partition("Subcommands:")[2], re.M))


@functools.lru_cache(None)
def targets():
    """(programs, all targets) that the CMake files declare."""
    text = "\n".join(path.read_text() for folder in ("src", "tests", "benchmarks", "cmake", "proto")
                     for path in [*(ROOT / folder).rglob("CMakeLists.txt"), *(ROOT / folder).rglob("*.cmake")])
    text += (ROOT / "CMakeLists.txt").read_text()
    programs = set(re.findall(r"tomoserve_program\((\S+)", text))
    tests = {f"{room}_test" for room in re.findall(r"tomoserve_room_test\((\w+)", text)}
    return programs, programs | tests | set(re.findall(r"add_(?:custom_target|executable|library)\((\w\S*?)[\s)]", text))


@functools.lru_cache(None)
def presets(kind):
    found = json.loads((ROOT / "CMakePresets.json").read_text())[f"{kind}Presets"]
    return {preset["name"] for preset in found if not preset.get("hidden")}


def has_option(text, option):
    return re.search(rf"(?<![\w-]){re.escape(option.partition('=')[0])}(?![\w-])", text) is not None


def missing_options(text, words, whose):
    return [f"{whose} has no option {word}" for word in words if word.startswith("--") and len(word) > 2
            and not has_option(text, word)]


def wrong_path(word):
    """What is wrong with a path of the repository, or nothing."""
    if PLACEHOLDER.search(word):
        return None
    match = PATH.match(word)
    if match is None:
        return None
    path = match[0].removeprefix("./").rstrip(".")
    built = re.fullmatch(r"build/(?:([\w-]+)/)?bin/([\w-]+)", path)
    if built:
        known = built[2] in targets()[0] and (built[1] is None or built[1] in presets("configure"))
        return None if known else f"{path} is not built"
    if path.startswith("build/"):
        return None  # what a build leaves there is no part of the repository
    return None if any(True for _ in ROOT.glob(path)) else f"{path} does not exist"


def wrong_in_tomoctl(words):
    verb = next((word for word in words if word in verbs()), None)
    if verb is None:
        plain = [word for word in words if re.fullmatch(r"[a-z][a-z-]+", word)]
        return [f"tomoctl has no verb {plain[0]}"] if plain else missing_options(help_of("tomoctl"), words, "tomoctl")
    path = [verb]
    if verbs(verb):
        below = next((word for word in words[words.index(verb) + 1:] if re.fullmatch(r"[a-z][a-z-]+", word)), None)
        if below not in verbs(verb):
            return [f"tomoctl {verb} has no verb {below}"]
        path.append(below)
    return missing_options(help_of("tomoctl") + help_of("tomoctl", *path), words, f"tomoctl {' '.join(path)}")


def wrong_in_docker_build(words):
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    found = []
    for option, value in zip(words, words[1:]):
        if option == "--target" and not re.search(rf"\bAS {re.escape(value)}\b", dockerfile, re.I):
            found.append(f"the Dockerfile has no stage {value}")
        if option == "--build-arg" and not re.search(rf"^ARG {re.escape(value.partition('=')[0])}\b", dockerfile, re.M):
            found.append(f"the Dockerfile has no argument {value}")
    return found


def wrong_in_script(path, words):
    """Options of a script stand in it; script/build takes a preset and targets."""
    found = missing_options((ROOT / path).read_text(), words, path)
    if path == "script/build":
        plain = [word for word in words if re.fullmatch(r"[a-z][\w-]*", word)]
        found += [f"there is no preset {preset}" for preset in plain[:1] if preset not in presets("build")]
        found += [f"there is no target {target}" for target in plain[1:] if target not in targets()[1]]
    return found


def wrong_in_command(words):
    program, rest = words[0].removeprefix("./"), words[1:]
    name = program.rpartition("/")[2]
    if name == "tomoctl":
        return wrong_in_tomoctl(rest)
    if name == "tomoserve":
        return missing_options(help_of("tomoserve"), rest, "tomoserve")
    if words[:2] == ["docker", "build"]:
        return wrong_in_docker_build(words)
    if program in ("ctest", "cmake"):
        kind = {"ctest": "test", "cmake": "configure"}[program]
        return [f"there is no preset {value}" for option, value in zip(rest, rest[1:])
                if option == "--preset" and value not in presets(kind)]
    if PATH.fullmatch(program) and (ROOT / program).is_file() and (ROOT / program).read_bytes()[:2] == b"#!":
        return wrong_in_script(program, rest)
    return []


def wrong_links(text, folder):
    """Links to files; what they point to beyond is the file's own business."""
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text))
    return [f"the link {link} leads nowhere" for link in links if not re.match(r"\w+:|#", link)
            and not (folder / link.partition("#")[0]).exists()]


def wrong_in(text, folder=ROOT):
    """Sentences, one for each thing that is named and not there."""
    found = wrong_links(text, folder)
    for piece in pieces_of(text):
        for command in COMMAND_END.split(piece):
            words = words_of(command)
            if words:
                found += wrong_in_command(words)
                found += [wrong for word in words if (wrong := wrong_path(word))]
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_what_a_document_names_is_there(document):
    path = ROOT / document
    assert wrong_in(path.read_text(), path.parent) == []


def test_the_documents_that_a_newcomer_reads_are_among_them():
    assert {"README.md", "CONTRIBUTING.md", "docs/API.md", "docs/MODELS.md", "docker/README.md", "tools/train/README.md",
            "examples/python/README.md"} <= set(map(str, DOCUMENTS))
    assert {"analyze", "inspect", "phantom", "health"} <= verbs()
    assert {"release", "cuda"} <= presets("build") and "programs" in targets()[1] and "ipc_test" in targets()[1]


@pytest.mark.parametrize("text,wrong", [
    ("```sh\nscript/absent\n```", "script/absent does not exist"),
    ("```\nX=1 script/demo && tools/absent.py FOLDER   # a comment\n```", "tools/absent.py does not exist"),
    ("see `docs/ABSENT.md`", "docs/ABSENT.md does not exist"),
    ("see `proto/tomoserve/v9/*.proto`", "proto/tomoserve/v9/*.proto does not exist"),
    ("see [it](docs/ABSENT.md)", "the link docs/ABSENT.md leads nowhere"),
    ("`build/bin/tomoabsent`", "build/bin/tomoabsent is not built"),
    ("`build/absent/bin/tomoctl`", "build/absent/bin/tomoctl is not built"),
    ("```sh\nbuild/bin/tomoctl absent FOLDER\n```", "tomoctl has no verb absent"),
    ("`tomoctl analyze PATH --absent`", "tomoctl analyze has no option --absent"),
    ("`tomoctl model absent X`", "tomoctl model has no verb absent"),
    ("`tomoctl model import X --absent`", "tomoctl model import has no option --absent"),
    ("`tomoctl --server X flags --absent=1`", "tomoctl flags has no option --absent=1"),
    ("```sh\nbuild/bin/tomoserve --listen A \\\n  --absent\n```", "tomoserve has no option --absent"),
    ("`script/setup --absent`", "script/setup has no option --absent"),
    ("`benchmarks/gpu/run --absent`", "benchmarks/gpu/run has no option --absent"),
    ("`script/build absent`", "there is no preset absent"),
    ("`script/build release absent`", "there is no target absent"),
    ("`ctest --preset absent -R x`", "there is no preset absent"),
    ("text\n\n    script/build absent programs\n\ntext", "there is no preset absent"),
    ("`docker build -f docker/Dockerfile --target absent .`", "the Dockerfile has no stage absent"),
    ("`docker build --build-arg ABSENT=1 .`", "the Dockerfile has no argument ABSENT=1")])
def test_what_is_not_there_is_named(text, wrong):
    assert wrong_in(text) == [wrong]


@pytest.mark.parametrize("text", [
    "```sh\nscript/demo   # and it's fine\nscript/build release programs && build/bin/tomoctl flags\n```",
    "`benchmarks/records/<gpu>-<commit>.json`, `models/<name>/<version>/recipe.textproto`",
    "```python\nimport absent.tools/absent\n```", "`tomoctl`, `tomoserve` and `tomoserve-worker`", "[site](https://example.org)"])
def test_what_is_there_or_is_no_name_is_left_alone(text):
    assert wrong_in(text) == []


# Values of DICOM attributes and states that CONFORMANCE.md names beside its codes.
NO_CODES = {"ACCEPT", "RESAMPLE", "REJECT", "FINAL", "FAILED", "INCONCLUSIVE", "PARTIAL", "SETTLE"}


def test_every_code_of_the_conformance_statement_is_tested():
    codes = set(re.findall(r"`([A-Z][A-Z0-9_]{4,})`", (ROOT / "docs" / "CONFORMANCE.md").read_text())) - NO_CODES
    tests = [path.read_text() for kind in ("cpp", "h", "py") for path in (ROOT / "tests").rglob(f"*.{kind}")
             if path.name != "test_documents.py"]
    named = set(re.findall(r"[A-Z][A-Z0-9_]{4,}", "\n".join(tests)))
    assert len(codes) > 70
    assert sorted(codes - named) == []
