"""The plugin as it was linked for the device: what it needs and exports, and what its kernels take.

    test_plugin_file.py LIBBALORA_CUDA_SO LIBBALORA_SO ARCHITECTURE...
"""
import re
import subprocess
import sys

import report

# Kernels that may use local memory: none of them runs in a training step.
COLD = {"fill_normal_kernel": "the argument reduction of a cosine in F64 keeps a small table"}


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


def demangled(text):
    names = sorted(set(re.findall(r"Function (\S+):", text)))
    plain = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    return dict(zip(names, plain.splitlines()))


def kernels(plugin):
    """[(architecture, name, registers, stack, shared, local)] of every kernel in the file."""
    text = output("cuobjdump", "--dump-resource-usage", plugin)
    names = demangled(text)
    found, architecture = [], "?"
    for line in text.splitlines():
        match = re.search(r"arch = (sm_\d+)", line)
        if match:
            architecture = match.group(1)
        match = re.search(r"Function (\S+):", line)
        if match:
            name = names[match.group(1)]
        match = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line)
        if match:
            found.append((architecture, re.sub(r"\(.*", "", name.replace("(anonymous namespace)::", "")),
                          *map(int, match.groups())))
    return found


def has_code_for(table, architectures):
    found = {row[0] for row in table}
    report.check(set(architectures) <= found, f"machine code for {sorted(found)}; expected {architectures}")


def no_spills(table):
    print(f"{'arch':8}{'registers':>10}{'stack':>8}{'shared':>9}{'local':>8}  kernel")
    wrong = []
    for architecture, name, registers, stack, shared, local in sorted(table, key=lambda row: (row[1], row[0])):
        print(f"{architecture:8}{registers:10}{stack:8}{shared:9}{local:8}  {name}")
        if (stack or local) and not any(cold in name for cold in COLD):
            wrong.append(f"{name} ({architecture}): {stack} bytes of stack, {local} of local memory")
    report.check(table, "cuobjdump listed no kernels")
    report.check(not wrong, "\n".join(wrong))


def main():
    plugin, library, architectures = sys.argv[1], sys.argv[2], sys.argv[3:]
    result = report.Report()
    result.case("the plugin needs CUDA's libraries and none of ours", needs_no_library_of_ours, plugin)
    result.case("the plugin exports its entry only", exports_one_symbol, plugin)
    result.case("libbalora needs no library of CUDA", library_names_no_cuda, library)
    table = kernels(plugin)
    result.case("machine code for every architecture", has_code_for, table, architectures)
    result.case("no kernel of a step spills registers", no_spills, table)
    result.exit()


main()
