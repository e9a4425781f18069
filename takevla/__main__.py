"""`python -m takevla COMMAND`, for `accelerate launch -m takevla` and where no script is installed."""

from takevla.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
