"""GGUF and Ollama: writing, reading back, and a llama.cpp where there is one."""
