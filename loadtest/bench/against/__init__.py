"""This tree beside another revision: what each operation of a person's journey costs a front, measured interleaved.

`make bench ARGS="--against REV"`. `checkout` gets the other revision, `stand` starts both services and prepares what is
asked, `operations` says what that is, `rounds` measures, `connections` and `overload` compare two more things, `report`
prints, and `command` puts them together.
"""
