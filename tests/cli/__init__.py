"""Tests of the command line and of everything a user reads or stores."""
