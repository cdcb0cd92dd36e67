"""The programs that gpu-check runs: built in place, or packed on one machine (gpu-kit/) and unpacked on another."""
import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
KIT = ROOT / "gpu-kit"
ARCHIVE = KIT / "kit.tar.xz"
MANIFEST = KIT / "manifest.json"
UNPACKED = ROOT / "build-gpu-kit"
LIMIT_BYTES = 60 << 20

PROGRAMS = {
    "balora": "tools/balora",
    "bench_ops": "benchmarks/bench_ops",
    "bench_pissa": "benchmarks/bench_pissa",
    "bench_step": "benchmarks/bench_step",
    "conformance-plugin": "tests/conformance/conformance-plugin",
    "test_equivalence": "tests/oracle/test_equivalence",
    "test_gradients": "tests/unit/test_gradients",
    "test_oracle": "tests/oracle/test_oracle",
    "test_peft_loads": "tests/oracle/test_peft_loads",
    "test_pissa": "tests/unit/test_pissa",
    "test_spectral": "tests/unit/test_spectral",
    "test_steady": "tests/unit/test_steady",
    "test_trainer": "tests/unit/test_trainer",
}
LIBRARY = "lib/libbalora.so.0"
PLUGIN = "cuda/libbalora-cuda.so"
EMULATED_PLUGIN = "cuda/emulation/libbalora-cuda.so"

# Every machine has these; those of CUDA and its driver belong to the machine with the GPU.
ON_EVERY_MACHINE = re.compile(r"linux-vdso|ld-linux|lib(c|m|dl|pthread|rt)\.so|lib(cu|nv)")
# The machine's own are preferred: others of its libraries may need their newer symbols.
FALLBACKS = re.compile(r"lib(stdc\+\+|gcc_s|gomp)\.so")


class Failure(Exception):
    """What went wrong, for people."""


class Installation:
    """Where the programs lie, and what they need in their environment."""

    def __init__(self, programs, plugin_folder, library_folders, commit):
        self.programs = programs
        self.plugin_folder = plugin_folder
        self.library_folders = library_folders
        self.commit = commit
        self.python_folder = None  # of packed wheels

    def program(self, name):
        return str(self.programs.get(name, name))

    def has(self, name):
        return name in self.programs and self.programs[name].exists()

    def environment(self, device):
        folders = [*map(str, self.library_folders), *cuda_folders(), os.environ.get("LD_LIBRARY_PATH", "")]
        return {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(folder for folder in folders if folder),
            "BALORA_PLUGIN_DIR": str(self.plugin_folder),
            "BALORA_TEST_DEVICE": device,
            "BALORA_FIXTURES": str(ROOT / "tests" / "oracle" / "fixtures"),
            "CMOCKA_MESSAGE_OUTPUT": "STDOUT",
            "OMP_WAIT_POLICY": "passive",
        }

    def peer_environment(self):
        """That of a Python with its own libraries, and with the wheels of the kit."""
        paths = [str(self.python_folder or ""), os.environ.get("PYTHONPATH", "")]
        return {**os.environ, "PYTHONPATH": ":".join(path for path in paths if path)}


# --- what the machine has ---

def output_of(*command):
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
                              cwd=ROOT, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def installed_libraries():
    """Names that the dynamic linker finds by itself."""
    return {line.split()[0] for line in (output_of("ldconfig", "-p") or output_of("/sbin/ldconfig", "-p")).splitlines()
            if "=>" in line}


def cuda_folders():
    """Folders of CUDA's libraries and cuDNN's that the dynamic linker does not know: of a toolkit or of wheels."""
    known = installed_libraries()
    places = [*pathlib.Path("/usr/local").glob("cuda*/lib64")]
    for folder in map(pathlib.Path, filter(None, sys.path)):
        places += folder.glob("nvidia/*/lib")
    found = []
    for place in places:
        names = [file.name for file in place.glob("lib*.so.*")]
        if any(re.match(r"lib(cublasLt|cusolver|cusparse|nvJitLink|cudart|cudnn)\.so\.\d+$", name) and name not in known
               for name in names):
            found.append(str(place))
    return found


def commit():
    name = output_of("git", "rev-parse", "--short", "HEAD")
    changed = " with changes" if output_of("git", "status", "--porcelain") else ""
    return name + changed if name else "unknown"


# --- building ---

def run_or_fail(*command):
    print("$", " ".join(command), flush=True)
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise Failure(f"{command[0]} failed; its output stands above")


def build(folder, emulated, architecture="", cudnn_frontend=""):
    """Configure and build the programs and the plugin; returns {name: file} and the plugin."""
    options = ["-Dbuildtype=release", "-Dtests=true", "-Dbenchmarks=true", "-Dtools=true",
               "-Dgpu=" + ("disabled" if emulated else "enabled"), "-Dgpu_architecture=" + architecture,
               "-Dcudnn_frontend=" + cudnn_frontend]
    verb = "configure" if (folder / "build.ninja").exists() else "setup"
    run_or_fail("meson", verb, str(folder), *options)
    plugin = EMULATED_PLUGIN if emulated else PLUGIN
    run_or_fail("ninja", "-C", str(folder), *PROGRAMS.values(), LIBRARY, plugin)
    return {name: folder / path for name, path in PROGRAMS.items()}, folder / plugin


def build_in_place(folder, emulated, architecture, cudnn_frontend):
    programs, plugin = build(folder, emulated, architecture, cudnn_frontend)
    return Installation(programs, plugin.parent, [folder / "lib"], commit())


# --- packing ---

def needed_libraries(files):
    """{name: path} of the shared libraries that the files need and that another machine may lack."""
    needed = {}
    for file in files:
        for line in output_of("ldd", str(file)).splitlines():
            match = re.match(r"\s*(\S+) => (not found|\S+)", line)
            if match is None or ON_EVERY_MACHINE.match(match[1]) or match[1].startswith("libbalora"):
                continue
            if match[2] == "not found":
                raise Failure(f"{file.name} needs {match[1]}, which is not on this machine")
            needed[match[1]] = pathlib.Path(match[2]).resolve()
    return needed


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def contents(programs, library, plugin, wheels, headers):
    """[(name in the archive, file)]"""
    entries = [(f"bin/{name}", file) for name, file in programs.items()]
    entries += [("lib/libbalora.so.0", library), ("lib/libbalora-cuda.so", plugin)]
    for name, file in sorted(needed_libraries([*programs.values(), library, plugin]).items()):
        entries.append((f"lib/fallback/{name}" if FALLBACKS.match(name) else f"lib/{name}", file))
    entries += [(f"wheels/{wheel.name}", wheel) for wheel in wheels]
    if headers is not None:
        entries += [(f"cudnn-frontend/{file.relative_to(headers)}", file)
                    for file in sorted(headers.rglob("*")) if file.is_file()]
    return entries


def write_archive(entries):
    shutil.rmtree(KIT, ignore_errors=True)
    KIT.mkdir()
    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        for name, file in entries:
            archive.add(file.resolve(), arcname=name, recursive=False)


def write_manifest(entries, emulated, architecture):
    manifest = {
        "commit": commit(),
        "architecture": "emulated" if emulated else f"sm_{architecture}",
        "glibc": " ".join(platform.libc_ver()),
        "machine": platform.machine(),
        "archive_sha256": digest(ARCHIVE),
        "files": {name: file.stat().st_size for name, file in entries},
    }
    MANIFEST.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def prepare(folder, emulated, architecture, cudnn_frontend, wheels):
    """Build, and pack gpu-kit/."""
    programs, plugin = build(folder, emulated, architecture, cudnn_frontend)
    headers = pathlib.Path(cudnn_frontend).resolve() if cudnn_frontend else None
    entries = contents(programs, folder / LIBRARY, plugin, [pathlib.Path(wheel).resolve() for wheel in wheels], headers)
    write_archive(entries)
    write_manifest(entries, emulated, architecture)
    total = sum(file.stat().st_size for file in KIT.iterdir())
    if total > LIMIT_BYTES:
        raise Failure(f"gpu-kit has {total / 2**20:.1f} MiB; at most {LIMIT_BYTES >> 20} MiB: pack for one architecture, "
                      "without wheels or headers")
    print(f"gpu-kit/: {len(entries)} files, {total / 2**20:.1f} MiB, {read_manifest()['architecture']}, "
          f"commit {read_manifest()['commit']}")


# --- unpacking ---

def read_manifest():
    return json.loads(MANIFEST.read_text(encoding="utf-8"))


def extract(archive, folder):
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, filter="data")
    else:
        archive.extractall(folder)


def take_fallbacks(library_folder):
    """Libraries of the kit in whose place the machine has none of its own."""
    known = installed_libraries()
    for file in (library_folder / "fallback").glob("*"):
        if file.name not in known:
            shutil.move(str(file), str(library_folder / file.name))


def unpack_wheels(wheels, folder):
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return folder


def check_kit(manifest):
    if digest(ARCHIVE) != manifest["archive_sha256"]:
        raise Failure("gpu-kit/kit.tar.xz is not the file that manifest.json describes; copy gpu-kit/ whole")
    if manifest["machine"] != platform.machine():
        raise Failure(f"gpu-kit/ was packed for {manifest['machine']}; this machine is {platform.machine()}")


def unpack():
    """The installation in gpu-kit/."""
    manifest = read_manifest()
    check_kit(manifest)
    shutil.rmtree(UNPACKED, ignore_errors=True)
    with tarfile.open(ARCHIVE, "r:xz") as archive:
        extract(archive, UNPACKED)
    libraries = UNPACKED / "lib"
    take_fallbacks(libraries)
    programs = {file.name: file for file in (UNPACKED / "bin").iterdir()}
    out = Installation(programs, libraries, [libraries], manifest["commit"])
    wheels = sorted(UNPACKED.glob("wheels/*.whl"))
    if wheels:
        out.python_folder = unpack_wheels(wheels, UNPACKED / "python")
    return out


def kit_is_there(emulated):
    if not (ARCHIVE.exists() and MANIFEST.exists()):
        return False
    return (read_manifest()["architecture"] == "emulated") == emulated
