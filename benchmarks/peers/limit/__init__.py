"""The most that the server can take, in a row with the contenders."""
