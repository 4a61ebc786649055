"""Commands for what a person does with runs as a whole: compare, name, take in, pack, trust and delete them."""
