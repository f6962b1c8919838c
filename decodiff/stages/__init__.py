"""One module per rule and per command: each reads files, calls the modules below, and writes files."""
