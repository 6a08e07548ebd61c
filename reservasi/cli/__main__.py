"""`python -m reservasi.cli`: the same as the installed command `reservasi`."""

from reservasi.cli import main

main()
