"""`python -m infra.cli`: the same as `alluvium`, for processes that start others with their own interpreter."""

from infra.cli import main

if __name__ == "__main__":
    main()
