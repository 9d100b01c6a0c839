"""The server process: limits of its connections, and its end."""
