"""`python -m turnstream_cli` is `turnstream`."""

from turnstream_cli.main import main

if __name__ == "__main__":
    main()
