"""Stations, whole: real keys, real HTTP on the loopback interface, real agents; times are waited for, never slept."""
