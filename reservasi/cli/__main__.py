"""`python -m reservasi.cli`: the same as the installed command `reservasi`."""

from reservasi.cli.main import main

main()
