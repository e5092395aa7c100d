"""``python -m cli``: the ``signals`` command without an installed script."""

from cli.main import app

if __name__ == "__main__":
    app(prog_name="signals")
