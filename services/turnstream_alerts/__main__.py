"""`python -m turnstream_alerts` is `turnstream-alerts`."""

from turnstream_alerts.main import main

if __name__ == "__main__":
    main()
