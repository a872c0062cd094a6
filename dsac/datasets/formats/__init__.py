"""Recordings as data sets, robots, phones and reconstruction programs write them; a module each."""
