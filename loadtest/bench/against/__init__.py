"""`make bench ARGS="--against REV"`: what each operation of a person's journey costs a front, here and in a revision.

`checkout` gets the other revision, `stand` starts both services and prepares what is asked, `operations` says what that
is, and `comparison` measures, compares both past their limit as well, and puts everything together.
"""
