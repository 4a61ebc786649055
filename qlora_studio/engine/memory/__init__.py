"""The traced estimate: real training code on meta tensors, and the allocator. It knows no other room of the engine."""
