"""Lessons to read, exercises that grade themselves, and the pictures of both: ``python -m lessons`` says what to do next."""
