"""What all services share: options, stop requests, exit statuses, printed errors and output.

No module here imports the library before a command runs, so that `--help` is quick.
"""
