"""Started by ``bin/stock-forecast``."""

from cli.main import app

if __name__ == "__main__":
    app(prog_name="stock-forecast")
