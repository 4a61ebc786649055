"""What a model can be exported as, how it is served, what is said of it. Writing it belongs in `engine`."""
