"""One method, one file; the catalogue names them."""
