"""The command line: `main` lists the commands; each module is a thin layer for a group of commands.

Nothing is imported here, so that the processes that `up` starts (`reservasi.cli.serve`) load only what they run.
"""
