"""gunicorn's own settings, for bare Flask under gunicorn's own worker: nothing is set here."""
