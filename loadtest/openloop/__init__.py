"""Load that arrives by a timetable, whether or not the service keeps up, and latency counted from the intended moment.

A closed loop waits for each answer before it asks again, so that a service which stalls is asked less and looks fast
(coordinated omission). Here the timetable is drawn beforehand, and the wait before a request can be sent counts too.
"""
