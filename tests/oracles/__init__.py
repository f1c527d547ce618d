"""Independent references for the tests: slow, plain, easy to check by eye.

Nothing here imports the package, not even its label space; a mistake there
must not be able to hide here. ``test_import_directions.py`` holds that.
"""
