"""OpenVINO without its telemetry: importing it tells Google Analytics, unless the package that does this is absent."""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino  # noqa: E402

__all__ = ["openvino"]
