"""Tests of data sets and their rows."""
