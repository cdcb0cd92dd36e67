"""The plugin as it was linked for the device: what it needs and exports, and what its kernels take.

    test_plugin_file.py LIBBALORA_CUDA_SO LIBBALORA_SO COMPILE_LOG ARCHITECTURE...
"""
import pathlib
import re
import subprocess
import sys

import report

# Kernels that may use local memory, and why.
COLD = {
    "fma_backward_keys<float, 512": "heads of 257 to 512, which no family here has: 255 registers are not quite enough",
    "fma_backward_keys<bf16, 512": "the same",
}


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def needs_no_library_of_ours(plugin):
    needed = re.findall(r"NEEDED\s+(\S+)", output("objdump", "-p", plugin))
    report.check(not any("balora" in name or "openblas" in name for name in needed), f"the plugin needs {needed}")
    report.check(any("cublasLt" in name for name in needed), f"no cuBLASLt among {needed}")
    print("needed:", " ".join(needed))


def exports_one_symbol(plugin):
    names = [line.split()[-1] for line in output("nm", "-D", "--defined-only", plugin).splitlines()]
    report.check(names == ["balora_backend_plugin"], f"exported: {names}")


def library_names_no_cuda(library):
    text = output("ldd", library)
    report.check(not re.search("cuda|cublas|cusolver|cudnn|nvidia", text, re.I), text)


def demangled(names):
    plain = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    return dict(zip(names, plain.splitlines()))


def kernels(log):
    """{(architecture, name): (registers, stack, spilled)} from what ptxas said while the plugin was compiled; the last
    word counts, as the log grows with every build of its folder."""
    if not log.exists():
        raise report.Skip(f"{log.name} is not there: scripts/test writes it while it compiles")
    found, entry = {}, None
    for line in log.read_text(errors="replace").splitlines():
        match = re.search(r"Compiling entry function '(\S+)' for '(sm_\d+)'", line)
        if match:
            entry = (match.group(2), match.group(1))
        match = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)
        if match:
            stack, spilled = int(match.group(1)), int(match.group(2)) + int(match.group(3))
        match = re.search(r"Used (\d+) registers", line)
        if match and entry is not None:
            found[entry] = (int(match.group(1)), stack, spilled)
    names = demangled(sorted({name for _, name in found}))
    return {(machine, re.sub(r"\((?!anonymous).*", "", names[name])): value
            for (machine, name), value in found.items()}


def has_code_for(log, architectures):
    found = {machine for machine, _ in kernels(log)}
    report.check(set(architectures) <= found, f"machine code for {sorted(found)}; expected {architectures}")


def no_spills(log):
    table = kernels(log)
    print(f"{'arch':8}{'registers':>10}{'stack':>8}{'spilled':>9}  kernel")
    wrong = []
    for (machine, name), (registers, stack, spilled) in sorted(table.items(), key=lambda row: row[0][::-1]):
        print(f"{machine:8}{registers:10}{stack:8}{spilled:9}  {name}")
        if (stack or spilled) and not any(cold in name for cold in COLD):
            wrong.append(f"{name} ({machine}): {stack} bytes of stack, {spilled} spilled")
    report.check(len(table) > 50, f"only {len(table)} kernels in the log")
    report.check(not wrong, "\n".join(wrong))


def main():
    plugin, library, log, architectures = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), sys.argv[4:]
    result = report.Report()
    result.case("the plugin needs CUDA's libraries and none of ours", needs_no_library_of_ours, plugin)
    result.case("the plugin exports its entry only", exports_one_symbol, plugin)
    result.case("libbalora needs no library of CUDA", library_names_no_cuda, library)
    result.case("machine code for every architecture", has_code_for, log, architectures)
    result.case("no kernel of a step spills registers", no_spills, log)
    result.exit()


main()
