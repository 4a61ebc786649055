"""How each package is tried: in a clean environment, in a clean home, in a clean Debian, by its contents alone."""
