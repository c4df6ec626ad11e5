"""The command line: tries, watches and operates a deployment; wiring and printing only."""
