"""`python -m turnstream_relay` is `turnstream-relay`."""

from turnstream_relay.main import main

if __name__ == "__main__":
    main()
