"""The walls between the rooms: who includes whom, and which functions the library never calls.

    test_walls.py SOURCE_ROOT INTERNAL_ARCHIVE [sanitized]
"""
import pathlib
import re
import subprocess
import sys

import report

# What each room may include besides itself and the public headers.
BELOW = {
    "base": [],
    "backend": ["base"],
    "cpu": ["backend", "base"],
    "tensor": ["backend", "base"],
}
BELOW["format"] = BELOW["tensor"] + ["tensor"]
BELOW["model"] = BELOW["format"] + ["format"]
BELOW["adapter"] = BELOW["model"] + ["model"]
BELOW["regularizer"] = BELOW["adapter"] + ["adapter"]
BELOW["optim"] = BELOW["adapter"] + ["adapter"]
BELOW["text"] = BELOW["adapter"] + ["adapter", "regularizer", "optim"]
BELOW["data"] = BELOW["text"] + ["text"]
BELOW["train"] = BELOW["data"] + ["data"]
BELOW["generate"] = BELOW["data"] + ["data"]
BELOW["comm"] = BELOW["backend"] + ["backend"]
LIB = sorted(set(BELOW["train"]) | {"train", "generate", "comm"})

# The CPU table sees the table and the ground only: a view is part of the table.
BELOW["cpu"] = BELOW["cpu"] + ["tensor/view.h"]

# The command is a client of the public headers; the search for a near word stands alone.
TOOLS = ["base/nearest.h"]

# The GPU's room lies outside src: libraries of its device, and these of ours.
CUDA_SUFFIXES = (".cu", ".cuh", ".h", ".cpp", ".in")
CUDA_MAY_SEE = {"backend/ops.h", "backend/operand.h", "backend/plugin.h", "backend/slots.h", "base/arith.h"}

FORBIDDEN = {"exit", "_exit", "_Exit", "quick_exit", "abort", "printf", "puts", "putchar", "vprintf", "fprintf",
             "vfprintf", "fputs", "fputc", "perror", "__assert_fail", "setlocale", "signal", "sigaction", "__printf_chk",
             "__fprintf_chk", "__vfprintf_chk", "__vprintf_chk", "strtok", "system", "popen", "rand", "srand", "atoi",
             "gets", "strcpy_s", "stdout", "stderr"}


def sources(folder):
    return sorted(path for path in folder.rglob("*") if path.suffix in (".c", ".h", ".inc"))


def cuda_sources(root):
    return sorted(path for path in (root / "cuda").rglob("*") if path.suffix in CUDA_SUFFIXES)


def includes(path):
    return re.findall(r'^\s*#\s*include\s+["<]([^">]+)[">]', path.read_text(), flags=re.M)


def allowed(include, room, below, folder):
    """A quoted or angled name is fine when it is libc, public, of the room itself, or of a room below."""
    head = include.split("/")[0]
    if head not in ROOMS and head != "lib":
        return True
    return head == room or head in below or include in below


def check_room(room, folder, below):
    wrong = []
    for path in sources(folder):
        for include in includes(path):
            if not allowed(include, room, below, folder):
                wrong.append(f"{path.name} includes {include}")
            if include.startswith(".."):
                wrong.append(f"{path.name} leaves its room by {include}")
    report.check(not wrong, "\n".join(wrong))


def cuda_sees_the_table_only(root):
    """Besides the system's and the device's headers: its own files, the table, the ground. Its sources include each
    other by plain names, of their folder or of the room's, and the emulation stands in for the device's header."""
    wrong = []
    files = cuda_sources(root)
    report.check(len(files) > 5, "the room cuda has no sources")
    for path in files:
        quoted = set(re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), flags=re.M))
        for include in includes(path):
            head = include.split("/")[0]
            own = (path.parent / include).is_file() or (root / "cuda" / include).is_file()
            ours = head in ROOMS | {"lib", "tools", "tests"}
            if include.startswith("..") or ours and include not in CUDA_MAY_SEE:
                wrong.append(f"{path.relative_to(root)} includes {include}")
            # "@source@" is the place that the build fills in
            elif include in quoted and not (own or ours or head == "balora" or include.startswith("@")):
                wrong.append(f"{path.relative_to(root)} includes \"{include}\", which is no file of its room")
    report.check(not wrong, "\n".join(wrong))


def nobody_sees_cuda(root):
    headers = {path.name for path in cuda_sources(root) if path.suffix in (".h", ".cuh")}
    device = re.compile(r"^(cuda|cublas|cusolver|cudnn|curand|nvrtc|nccl|nvtx)")
    wrong = []
    for folder in ("src", "lib", "include", "tools", "examples", "benchmarks"):
        for path in sources(root / folder):
            for include in includes(path):
                name = pathlib.PurePath(include).name
                # a header of the same name may stand in another room: "internal.h"
                foreign = name in headers and "/" not in include and not (path.parent / include).is_file()
                if foreign or include.startswith("cuda/") or device.match(include):
                    wrong.append(f"{path.relative_to(root)} includes {include}")
    report.check(not wrong, "\n".join(wrong))


def public_headers_need_libc_only(include):
    libc = {"stddef.h", "stdint.h"}
    wrong = [f"{path.name} includes {name}" for path in sources(include) for name in includes(path)
             if name not in libc and not name.startswith("balora/")]
    report.check(not wrong, "\n".join(wrong))


def no_device_outside_its_room(root):
    wrong = []
    for folder in ("src", "lib", "include", "tools", "examples"):
        for path in sources(root / folder):
            for line in path.read_text().splitlines():
                if re.match(r"\s*#\s*(if|ifdef|ifndef|elif)\b.*(CUDA|__NVCC__)", line):
                    wrong.append(f"{path}: {line.strip()}")
    report.check(not wrong, "\n".join(wrong))


def never_calls(archive):
    output = subprocess.run(["nm", "-u", "-A", archive], capture_output=True, text=True, check=True).stdout
    wrong = [line for line in output.splitlines() if line.split()[-1].split("@")[0] in FORBIDDEN]
    report.check(not wrong, "\n".join(wrong))
    report.check("memcpy" in output, "nm listed no symbols at all")


def constant_tables_only(archive):
    """Writable data of the library: the thread-local detail of the last failure only."""
    sections = subprocess.run(["objdump", "-t", archive], capture_output=True, text=True, check=True).stdout
    wrong = []
    for line in sections.splitlines():
        match = re.match(r"^[0-9a-f]+ (.{7}) (\S+)\s+([0-9a-f]+)\s+(?:\.hidden )?(\S+)$", line)
        if match is None or "O" not in match.group(1):
            continue
        section, name = match.group(2), match.group(4)
        if re.match(r"\.(data|bss)(\.(?!rel\.ro)|$)", section) and not section.startswith(".data.rel.ro"):
            wrong.append(f"{name} in {section}")
    report.check(not wrong, "mutable globals:\n" + "\n".join(wrong))


def main():
    global ROOMS
    root, archive = pathlib.Path(sys.argv[1]), sys.argv[2]
    ROOMS = {path.name for path in (root / "src").iterdir() if path.is_dir()}
    result = report.Report()
    result.case("every room is on the plan", lambda: report.check(
        ROOMS <= set(BELOW), f"rooms without a rule: {sorted(ROOMS - set(BELOW))}"))
    for room in sorted(ROOMS & set(BELOW)):
        result.case(f"src/{room} looks down only", check_room, room, root / "src" / room, BELOW[room])
    result.case("lib sees every room", check_room, "lib", root / "lib", LIB)
    result.case("tools see public headers only", check_room, "tools", root / "tools", TOOLS)
    result.case("examples see public headers only", check_room, "examples", root / "examples", [])
    result.case("cuda sees the table and its device only", cuda_sees_the_table_only, root)
    result.case("nobody sees cuda", nobody_sees_cuda, root)
    result.case("public headers need libc only", public_headers_need_libc_only, root / "include")
    result.case("no device conditionals outside its room", no_device_outside_its_room, root)
    if sys.argv[3:] != ["sanitized"]:  # instrumentation adds globals of its own
        result.case("the library never exits, aborts or prints", never_calls, archive)
        result.case("no mutable globals", constant_tables_only, archive)
    result.exit()


main()
