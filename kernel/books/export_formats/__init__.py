"""How the books look in other programs: one module for each format. What is handed out, and once, stands in `export`."""
