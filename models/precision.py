"""Half precision where the processor has instructions for it: without them it is slower than single precision."""

import torch


def half_precision(device: torch.device, *, wanted: bool = True) -> torch.autocast:
    """A context in which matrices are multiplied as bfloat16, if that is `wanted` and the faster way on `device`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and multiplies_bfloat16(device))


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the processor has instructions to multiply bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, object] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # absent from the oldest releases that are allowed
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16"))
