"""Pure: the run config, events, run state, data formats, the VRAM estimate. No Qt, no torch, no files, no processes."""
