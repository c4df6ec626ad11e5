"""`python -m turnstream_worker` is `turnstream-worker`."""

from turnstream_worker.main import main

if __name__ == "__main__":
    main()
