"""Which CUDA devices there are, asked of the driver itself: loading torch for that takes seconds."""

import ctypes
import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path


def cuda_devices() -> list[str]:
    """Names of the GPUs that the NVIDIA driver offers to this process (CUDA_VISIBLE_DEVICES counts).

    Source: CUDA driver API, cuInit, cuDeviceGetCount, cuDeviceGet, cuDeviceGetName; each returns 0 for success.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    return [_name_of(driver, number) for number in range(count.value)]


def torch_cuda() -> str | None:
    """The CUDA version that the installed torch was built for, None for a build without; torch is not loaded."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^cuda\b[^=]*= *['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return found[1] if found else None


def describe(wanted: str) -> tuple[bool, str]:
    """Whether `scoring.device` can be had, and what it comes to, in words."""
    try:
        torch = f"torch {version('torch')}"
    except PackageNotFoundError:
        return False, "torch is not installed"
    devices = cuda_devices()
    cuda = torch_cuda()
    if wanted == "cpu":
        return True, f"cpu, as configured ({torch})"
    why_not = "there is no CUDA device" if not devices else f"{torch} is built without CUDA" if cuda is None else None
    if wanted == "auto" and why_not:
        return True, f"cpu, since {why_not} ({torch})"
    number = int(wanted.partition(":")[2] or 0)
    if why_not or number >= len(devices):
        return False, f"{wanted} is configured, but {why_not or f'there are only {len(devices)} CUDA devices'}"
    return True, f"cuda:{number}, {devices[number]} ({torch})"


def _name_of(driver: ctypes.CDLL, number: int) -> str:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(100)
    if driver.cuDeviceGet(ctypes.byref(device), number) or driver.cuDeviceGetName(name, 100, device):
        return "a CUDA device"
    return name.value.decode("utf-8", "replace")
