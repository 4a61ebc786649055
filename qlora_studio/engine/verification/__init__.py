"""The proof of an export: read again in a fresh process, compared with the adapter that it was made from."""
