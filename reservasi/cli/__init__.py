"""The command line: `main` puts the commands together, one module a group of commands, each a thin layer.

Nothing is imported here, so that the processes which `up` starts (`reservasi.cli.serve`) load only what they run.
"""
