"""HTTP to read: one route family a file."""
